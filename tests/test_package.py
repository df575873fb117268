"""The wheel: every file that the packages read is in it, and what it needs is among its dependencies."""

import ast
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from importlib.metadata import distribution, packages_distributions, requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from programs import need
from setuptools import Distribution

PACKAGES = ("emamba", "rtl", "flow", "sim", "boards", "asic")
PROJECT = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))["project"]


def normal(name: str) -> str:
    return name.lower().replace("_", "-")


def needed(lines: list[str]) -> set[str]:
    """Distributions that installing these brings."""
    found, todo = set(), [Requirement(line) for line in lines]
    while todo:
        wanted = todo.pop()
        if normal(wanted.name) not in found:
            found.add(normal(wanted.name))
            parts = map(Requirement, requires(wanted.name) or ())
            todo += [part for part in parts if part.marker is None
                     or any(part.marker.evaluate({"extra": extra}) for extra in ("", *wanted.extras))]
    return found


def test_every_file_is_in_the_wheel():
    wheel_of = Distribution({"script_name": "setup.py"})
    wheel_of.parse_config_files(["pyproject.toml"])
    build = wheel_of.get_command_obj("build_py")
    build.ensure_finalized()
    build.build_lib = "."
    wheel = {Path(name).as_posix() for name in build.get_outputs(include_bytecode=False)}
    found = [path for folder in (*PACKAGES, "emamba/mars") for path in Path(folder).rglob("*")]
    shipped = {path.as_posix() for path in found if path.is_file() and "__pycache__" not in path.parts}
    assert wheel == shipped and "emamba/mars/manifest.json" in wheel
    assert {"LICENSE", "NOTICE"} <= set(wheel_of.metadata.license_files)


def test_notices_of_third_parties():
    """Of the data that the shipped model is trained on, some of which it has, and of the library that designs are made with."""
    notice = " ".join(Path("NOTICE").read_text(encoding="utf-8").split())
    for terms in (Path("data/mars/LICENSE").read_text(encoding="utf-8"),
                  distribution("amaranth").read_text("licenses/LICENSE.txt")):
        assert " ".join(terms.split()) in notice
    for name in ("LICENSE", "NOTICE"):
        assert Path("boards", name).read_bytes() == Path(name).read_bytes()


def test_core_dependencies_are_enough():
    """What commands, builds, simulation and report load imports nothing that only an extra brings."""
    code = ("import sys, flow.cli, flow.report.collect, flow.report.page, flow.compare, flow.report.profiling\n"
            "import emamba.datasets.prepare\n"
            "import flow.build, sim.executor, sim.recorder, sim.waveform\n"
            f"own = [module for name, module in sys.modules.items() if name.split('.')[0] in {PACKAGES} and module.__file__]\n"
            "print(*(module.__file__ for module in own), sep='\\n')")
    files = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.splitlines()
    imported = set()
    for node in (node for file in files for node in ast.parse(Path(file).read_text(encoding="utf-8")).body):
        if isinstance(node, ast.Import):
            imported |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            imported.add(node.module.split(".")[0])
    owners, allowed = packages_distributions(), {normal(Requirement(line).name) for line in PROJECT["dependencies"]}
    foreign = {name for name in imported - set(sys.stdlib_module_names) - set(PACKAGES)
               if not {normal(owner) for owner in owners[name]} & allowed}
    assert len(files) > 50 and {"numpy", "amaranth", "vcd"} <= imported and not foreign


def test_constraints_pin_every_requirement():
    pins = dict(line.split("==") for line in Path("constraints.txt").read_text(encoding="utf-8").split())
    pinned = {normal(name): version for name, version in pins.items()}
    for line in (*PROJECT["dependencies"], *(line for part in PROJECT["optional-dependencies"].values() for line in part)):
        assert pinned[normal(Requirement(line).name)] in Requirement(line).specifier, line
    assert needed(PROJECT["dependencies"]) <= set(pinned)


def test_hashes_are_those_of_the_pins():
    """Set-up installs each pin by the hash of its file, but torch, whose file differs from machine to machine."""
    pins = set(Path("constraints.txt").read_text(encoding="utf-8").lower().replace("_", "-").split())
    rows = Path("hashes.txt").read_text(encoding="utf-8").replace(" \\\n", "").splitlines()
    hashed = {}
    for row in rows[1:]:
        pin, *hashes = row.split(" --hash=")
        hashed[pin.split(" ;")[0].strip().lower().replace("_", "-")] = hashes
    assert all(hashes and all(re.fullmatch(r" *sha256:[0-9a-f]{64} *", one) for one in hashes) for hashes in hashed.values())
    assert set(hashed) <= pins
    parts = [line for name, part in PROJECT["optional-dependencies"].items() if name != "layouts" for line in part]
    wanted = needed([line for line in (*PROJECT["dependencies"], *parts) if not line.startswith("torch")])
    assert wanted <= {pin.split("==")[0] for pin in hashed}


def test_what_a_container_copies_is_there():
    """And it is all that `make setup` reads; its Python is one that the package takes."""
    lines = Path("Dockerfile").read_text(encoding="utf-8").splitlines()
    copied = {name for line in lines if line.startswith("COPY") for name in line.split()[1:-1]}
    assert all(Path(name).exists() for name in copied)
    assert {"pyproject.toml", "constraints.txt", "hashes.txt", "tools", *PACKAGES} <= copied
    assert any(line.startswith("FROM python:3.1") for line in lines)
    json.loads(Path(".devcontainer/devcontainer.json").read_text(encoding="utf-8"))
    assert "tools/dist.sh" in Path(".github/workflows/release.yml").read_text(encoding="utf-8")
    assert os.access("tools/dist.sh", os.X_OK)


def setup(tmp_path, commands: dict[str, str | None], **environment: str) -> subprocess.CompletedProcess:
    """Runs set-up in a folder of its own, where these commands are all that there is."""
    place = tmp_path / "bin"
    place.mkdir()
    for name in ("sh", "tr", "ls", "touch", "mkdir", "cp"):
        (place / name).symlink_to(shutil.which(name))
    python = "mkdir -p .venv/bin; [ -e .venv/bin/python ] || cp $0 .venv/bin/python"
    there = {"python3": python, "initdb": "", "g++": "", "perl": ""}
    for name, body in (there | commands).items():
        if body is None:
            continue
        (place / name).write_text(f"#!/bin/sh\necho {name} \"$@\" >> calls\n{body}\n", encoding="utf-8")
        (place / name).chmod(0o755)
    return subprocess.run([Path("tools/setup.sh").resolve()], cwd=tmp_path, env={"PATH": str(place)} | environment,
                          capture_output=True, text=True)


def test_missing_programs_are_named(monkeypatch):
    """A test that needs one fails, whatever set-up left out."""
    monkeypatch.setenv("PATH", "")
    with pytest.raises(pytest.fail.Exception, match="the test runs sta, which is not on PATH: apt-get install opensta"):
        need("sta")


ROOT, USER = {"id": "echo 0"}, {"id": "echo 1000"}
OPTIONAL = ("iverilog tcl device-tree-compiler opensta gcc-arm-none-eabi qemu-system-arm gcc-riscv64-unknown-elf "
            "qemu-system-misc")


@pytest.mark.parametrize("commands, environment, code, said", [
    (ROOT | {"apt-get": ""}, {}, 0, f"installs the system's packages {OPTIONAL} by apt-get; EMAMBA_SETUP=no-packages leaves them "
                                    "out"),
    (ROOT | {"apt-get": '[ "$5" != opensta ]'}, {}, 0, "the system's package manager could not install opensta: tests that need "
                                                       "it will fail"),
    (ROOT | {"apt-get": '[ $1 != install ]', "g++": None}, {}, 1, "the system's package manager could not install: g++"),
    (ROOT | {"apt-get": "", "perl": None}, {"EMAMBA_SETUP": "no-packages"}, 1,
     "these packages are missing and not installed from here, since EMAMBA_SETUP forbids it; install them: perl"),
    (ROOT | {"apt-get": ""}, {"EMAMBA_SETUP": "no-packages"}, 0,
     f"not installed, since EMAMBA_SETUP forbids it: {OPTIONAL}; tests that need them will fail"),
    (USER | {"apt-get": "", "g++": None}, {}, 1,
     "these packages are missing and not installed from here, since that takes root, or sudo without a password; install them: "
     "g++"),
    (USER | {"apt-get": "", "sudo": 'shift; "$@"'}, {}, 0, "by sudo apt-get; "),
    (USER, {}, 0, f"not installed, since there is no apt-get here: {OPTIONAL}; tests that need them will fail"),
    (USER, {"EMAMBA_SETUP": "all"}, 1, "EMAMBA_SETUP=all is unknown; no-packages is the only choice"),
    (USER | {"python3": "exit 1"}, {}, 1, "python3 is older than 3.11; name a newer one with PYTHON=..."),
])
def test_setup(tmp_path, commands, environment, code, said):
    """It says what it does before it does it; what only tests need is no reason to stop; nothing else is installed."""
    done = setup(tmp_path, commands, **environment)
    assert done.returncode == code, done.stderr
    assert f"setup: {said}" in done.stdout + done.stderr or (said.startswith("by ") and said in done.stdout)
    calls = (tmp_path / "calls").read_text(encoding="utf-8").splitlines() if (tmp_path / "calls").exists() else []
    assert ("apt-get" in " ".join(calls)) == ("apt-get" in done.stdout or "package manager" in done.stderr)
    installs = [call for call in calls if " -m pip " in call]
    first = "--require-hashes --no-deps -r hashes.txt -q --disable-pip-version-check --no-compile"
    assert len(installs) == 2 and installs[0].endswith(first) if code == 0 else not installs
    assert (tmp_path / ".venv" / "ready").exists() == ("make demo" in done.stdout) == (code == 0)
