"""Kinds of refusals: every one has a kind, nothing tells them apart by wording, and nothing swallows all of them."""

import ast
import os
import pickle
import re
import subprocess
import sys
from pathlib import Path

import pytest

from asic.netlist import pdk as pdks
from boards.driver import serial
from boards.driver.description import Description
from emamba import api, datasets
from emamba.artifact import load
from emamba.base import errors
from emamba.base.errors import (
    DesignLimit,
    DeviceError,
    EmambaError,
    InputError,
    OutputError,
    SettingError,
    SimulationStopped,
    ToolMissing,
)
from emamba.base.formats import IntFormat
from emamba.config import ModelConfig, Recipe, load_toml, validate
from emamba.io.files import check_replaceable, read_bytes
from emamba.io.tensor_files import read_array
from flow.executors import make_executor
from rtl.kit import tools
from rtl.plan.devices import find
from rtl.plan.planner import Request, plan
from rtl.plan.schedule import Schedule
from sim.models import random_artifact

PRODUCT = [path for folder in ("emamba", "rtl", "flow", "sim", "boards", "asic", "verify", "benchmarks")
           for path in sorted(Path(folder).rglob("*.py")) if not path.name.startswith("test_")]
KINDS = {name for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, EmambaError)}
CATCHES_ALL = {
    "emamba/base/errors.py": "says where a refusal is, and passes it on",
    "sim/cocotb_system.py": "asserts the sentences of the driver",
    "verify/fuzz.py": "counts refusals, which are what mutated files must end in",
    "emamba/api.py": "passes refusals on, where all other exceptions become faults",
    "flow/search/search.py": "a trial that fails is recorded with its sentence",
    "flow/search/storage.py": "passes refusals on to who asked",
    "flow/search/workers.py": "sends a refusal to the process that waits",
}
"""Files that may catch every refusal, and what for."""


def nodes(path: Path, kind: type):
    return [node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, kind)]


def caught(handler: ast.ExceptHandler) -> set[str]:
    """Names of the classes that a handler catches."""
    return {name.id for name in ast.walk(handler.type) if isinstance(name, ast.Name)} if handler.type else set()


def test_every_refusal_has_a_kind():
    for path in PRODUCT:
        made = [node for node in nodes(path, ast.Call) if isinstance(node.func, ast.Name) and node.func.id == "EmambaError"]
        assert not made, f"{path}:{made[0].lineno}"


def test_nothing_swallows_every_refusal():
    found = {str(path) for path in PRODUCT for handler in nodes(path, ast.ExceptHandler) if "EmambaError" in caught(handler)}
    assert found == set(CATCHES_ALL)
    suppressed = [path for path in PRODUCT for call in nodes(path, ast.Call) if ast.unparse(call.func).endswith("suppress")
                  and "EmambaError" in map(ast.unparse, call.args)]
    assert not suppressed


def test_nothing_tells_refusals_by_their_words():
    """In no handler of one is its text compared, searched or taken apart; assertions may."""
    for path in PRODUCT:
        for handler in nodes(path, ast.ExceptHandler):
            if not handler.name or not caught(handler) & KINDS:
                continue
            asserted = {id(node) for check in ast.walk(handler) if isinstance(check, ast.Assert) for node in ast.walk(check)}
            for node in ast.walk(handler):
                told = {ast.unparse(each) for each in ast.walk(node)} & {f"str({handler.name})", f"{handler.name}.args"}
                taken_apart = isinstance(node, ast.Compare) or (
                    isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and any(
                        f"{text}." in ast.unparse(node.func) for text in (f"str({handler.name})", f"{handler.name}.args")))
                assert not (told and taken_apart) or id(node) in asserted, f"{path}:{node.lineno}"


def test_every_kind_says_what_to_do():
    for name in KINDS:
        assert vars(errors)[name].__doc__.strip(), name


@pytest.mark.parametrize("name", sorted(KINDS))
def test_a_kind_goes_through_a_pipe_and_gets_a_place(name):
    """Workers send refusals; nodes and files put their name before them."""
    error = SimulationStopped("no", "stop") if name == "SimulationStopped" else vars(errors)[name]("no")
    for found, sentence in ((pickle.loads(pickle.dumps(error)), "no"), (error.within("node 'x'"), "node 'x': no")):
        assert type(found) is type(error) and str(found) == sentence and vars(found) == vars(error)


def unreadable(tmp_path: Path) -> Path:
    (tmp_path / "file.npy").write_bytes(b"no array")
    return tmp_path / "file.npy"


@pytest.mark.parametrize("kind, refuse", [
    (InputError, lambda tmp: load(tmp)),
    (InputError, lambda tmp: read_array(unreadable(tmp))),
    (InputError, lambda tmp: read_bytes(tmp)),
    (InputError, lambda tmp: load_toml(Recipe, tmp / "none.toml")),
    (InputError, lambda tmp: datasets.load("mars", "official", tmp, True)),
    (InputError, lambda tmp: api.compile(object(), [[1.0]])),
    (InputError, lambda tmp: Description.read({})),
    (SettingError, lambda tmp: validate(ModelConfig, {"input": "smell"}, "model")),
    (SettingError, lambda tmp: make_executor(None, "gpu")),
    (SettingError, lambda tmp: find("de10")),
    (SettingError, lambda tmp: pdks.find("none", None)),
    (SettingError, lambda tmp: Schedule(random_artifact("emamba-image"), 0)),
    (SettingError, lambda tmp: datasets.load("none", "official", tmp, True)),
    (OutputError, lambda tmp: (unreadable(tmp), check_replaceable(tmp, "manifest.json"))),
    (DesignLimit, lambda tmp: IntFormat(99)),
    (DesignLimit, lambda tmp: plan(random_artifact("emamba-image"), Request(multipliers=1))),
    (DeviceError, lambda tmp: serial.SerialTransport(str(tmp / "none"))),
])
def test_representative_refusals(tmp_path, monkeypatch, kind, refuse):
    monkeypatch.delenv("EMAMBA_DATA", raising=False)
    with pytest.raises(EmambaError) as found:
        refuse(tmp_path)
    assert type(found.value) is kind, str(found.value)


def test_a_missing_program():
    with pytest.raises(ToolMissing):
        tools.version("no-such-package")


TWICE = """
import numpy as np
from emamba.run.executors import make_executor
from sim.models import random_artifact, random_inputs
for seed in (0, 1):
    artifact = random_artifact("emamba-image", seed)
    tokens = random_inputs(artifact.config, 4096 // artifact.config.tokens + 1)
    head = make_executor(artifact, "int")(tokens, ["head"])["head"]
    assert np.array_equal(head, make_executor(artifact, "int")(tokens, None)["head"])
"""


@pytest.mark.parametrize("compiler, said", [
    ("false", r"emamba: false cannot compile \S+compiled.c: \S.*; NumPy computes instead, several times slower\n"),
    ("no-such-compiler", ""),
])
def test_a_broken_compiler_is_told_once(compiler, said):
    """None is no fault; either way the integers are the same."""
    done = subprocess.run([sys.executable, "-c", TWICE], env=os.environ | {"CC": compiler}, capture_output=True, text=True)
    assert done.returncode == 0 and re.fullmatch(said, done.stderr), done.stderr
