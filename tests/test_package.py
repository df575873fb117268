"""The wheel: every file that the packages read is in it, and what it needs is among its dependencies."""

import ast
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions, requires
from pathlib import Path

from packaging.requirements import Requirement
from setuptools import Distribution

PACKAGES = ("emamba", "rtl", "sim", "boards", "asic")
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
    distribution = Distribution({"script_name": "setup.py"})
    distribution.parse_config_files(["pyproject.toml"])
    build = distribution.get_command_obj("build_py")
    build.ensure_finalized()
    build.build_lib = "."
    wheel = {Path(name).as_posix() for name in build.get_outputs(include_bytecode=False)}
    found = [path for folder in (*PACKAGES, "emamba/mars") for path in Path(folder).rglob("*")]
    shipped = {path.as_posix() for path in found if path.is_file() and "__pycache__" not in path.parts}
    assert wheel == shipped and "emamba/mars/manifest.json" in wheel and "LICENSE" in distribution.metadata.license_files


def test_core_dependencies_are_enough():
    """What commands, builds, simulation and report load imports nothing that only an extra brings."""
    code = ("import sys, emamba.cli, emamba.report, emamba.report_page, emamba.compare, emamba.prepare, emamba.profiling\n"
            "import rtl.build, sim.executor, sim.recorder, sim.waveform\n"
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
