"""Every target on every kind of model: those that ship, those that are imported, each norm. And every table knows every node."""

import gc
import json
from collections import defaultdict
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from amaranth.build.plat import TemplatedPlatform
from amaranth.hdl import Fragment
from foreign import Config, LanguageModel, Settings, randomize
from test_build import FILES

import emamba
import flow.build
from boards.zcu102 import target as zcu102
from boards.zynqmp import bundle
from emamba import artifact as artifacts
from emamba import ops
from emamba.artifact import Artifact
from emamba.base.errors import EmambaError
from emamba.base.formats import IntFormat
from emamba.config import ModelConfig
from emamba.graph import Graph, build_graph
from emamba.run.compiled import IntegerLoop
from rtl.kit import tools
from rtl.kit.block import Spec
from rtl.kit.registry import BLOCKS
from rtl.plan.accelerator import Accelerator
from rtl.plan.schedule import REALIZATION, fold
from sim.models import random_artifact

MODELS = Path("models")
pytestmark = pytest.mark.slow
TINY = {"d_model": 2, "expand": 1, "d_state": 1, "dt_rank": 1, "blocks": 1}
CYCLES = "8"
EVERY = ["--products", "multipliers", "--decays", "segments", "--activations", "segments", "--cycles-per-token", CYCLES]
"""What else each target would choose by its device: so those without a device of their own share a design."""


def tiny(config: ModelConfig) -> ModelConfig:
    """The same kind of model, small."""
    inputs = {"image": {"image": (2, 1, 1), "patch": (1, 1)}, "sequence": {"features": 1, "length": 2},
              "tokens": {"vocabulary": 2, "length": 2}}[config.input]
    same = {key: getattr(config, key) for key in ("form", "input", "norm", "bias", "residual", "pool", "task", "conv", "delta")}
    same |= {"head_dim": 1} if config.head_dim else {}
    return ModelConfig(**same | inputs | TINY, outputs=2 if config.input == "tokens" else 1)


def kind(config: ModelConfig) -> tuple:
    """What tells models apart but for their sizes and the kind of their norm: the nodes of one block."""
    graph = build_graph(config.model_copy(update={"blocks": 1}))
    return (config.input == "tokens", *(node.name for node in graph))


def shipped() -> dict[str, ModelConfig]:
    """By the first artifact of its kind; `shakespeare` is of that of the imported ones."""
    found: dict[tuple, tuple[str, ModelConfig]] = {}
    for path in sorted(set(MODELS.glob("*/manifest.json")) - {MODELS / "shakespeare/manifest.json"}):
        config = artifacts.load(path.parent).config
        found.setdefault(kind(config), (path.parent.name, config))
    return dict(found.values())


def imported(settings: Settings | Config) -> Artifact:
    ids = np.random.default_rng(0).integers(0, 2, (8, 2))
    return emamba.compile(randomize(LanguageModel(settings)), ids)


NO_NORM = ModelConfig(input="sequence", features=1, length=2, norm="none", pool="last", task="classification", outputs=1, **TINY)
ATTENTION = ModelConfig(form="mamba2", input="sequence", features=1, length=2, head_dim=1, direction="backward", attention=2,
                        norm="layer", smooth=1, task="regression", outputs=1, **TINY | {"blocks": 2})
ARTIFACTS = {
    **{name: lambda config=config: random_artifact(tiny(config)) for name, config in shipped().items()},
    "no norm": lambda: random_artifact(NO_NORM),
    "both directions": lambda: random_artifact(ModelConfig(input="image", image=(2, 1, 1), patch=(1, 1), d_conv=2, conv="grid",
                                                           direction="both", task="regression", outputs=1, **TINY)),
    "attention": lambda: random_artifact(ATTENTION),
    "mamba_ssm": lambda: imported(Settings(d_model=2, n_layer=1, vocab_size=2, rms_norm=False, pad_vocab_size_multiple=1,
                                           ssm_cfg={"d_state": 1, "expand": 1})),
    "transformers": lambda: imported(Config(hidden_size=2, num_hidden_layers=1, vocab_size=2, state_size=1, expand=1)),
}
"""A small one of every kind."""


@pytest.fixture(scope="module", params=ARTIFACTS)
def small(request, tmp_path_factory):
    """Artifact and folder."""
    folder = tmp_path_factory.mktemp("small") / "artifact"
    artifacts.save(ARTIFACTS[request.param](), folder)
    return artifacts.load(folder), folder


@pytest.fixture
def quick(monkeypatch):
    """Designs are elaborated, a system that targets share once; only the chip becomes Verilog, since that is read again."""
    done: set[tuple] = set()

    def elaborate(component, name="top"):
        schedule = component.schedule
        key = schedule.realization, schedule.period
        if isinstance(component, Accelerator) or key not in done:
            Fragment.get(component, None)
            done.add(key)
        return ""

    for module in (flow.build, bundle, zcu102):
        monkeypatch.setattr(module, "to_verilog", elaborate)
    monkeypatch.setattr(TemplatedPlatform, "toolchain_prepare", lambda *_, **__: SimpleNamespace(files=defaultdict(str)))
    monkeypatch.setattr(tools, "yosys", lambda folder, commands: None)
    monkeypatch.setattr(tools, "nextpnr", lambda *_: {"fmax": {"clk": {"achieved": 30.0}}, "utilization": {}})
    monkeypatch.setattr(tools, "ecppack", lambda folder, options: (folder / "top.bit").touch())
    monkeypatch.setattr("boards.vivado.shutil.which", lambda name: None)
    gc.disable()  # a fifth of the time is spent on looking for garbage among the designs, which live to the end
    yield
    gc.enable()


def test_every_target(small, quick, tmp_path, capsys):
    artifact, folder = small
    for target in [name for name, found in flow.build.TARGETS.items() if not hasattr(found, "MACHINE")]:  # of a pipeline
        counters = ["--counters", "no"] if target in flow.build.SYSTEMS else []
        assert flow.build.main([target, "--artifact", str(folder), "--out", str(tmp_path / target), *EVERY, *counters]) == 0, (
            target, capsys.readouterr().err)
        assert {path.name for path in (tmp_path / target).iterdir()} == FILES[target] | {"report.json"}
        report = json.loads((tmp_path / target / "report.json").read_text(encoding="utf-8"))
        assert [stage["kind"] for stage in report["stages"]] == [node.kind for node in artifact.graph.nodes[1:]]
    memories = json.loads((tmp_path / "asic" / "memories.json").read_text(encoding="utf-8"))
    assert memories and all(memory["kind"] for memory in memories)


def test_every_operator_is_here():
    """In the models above, and hence in what is done to these; each has a block and C."""
    configs = [make().config for make in ARTIFACTS.values()]
    assert {node.kind for config in configs for node in build_graph(config)} == set(ops.OPERATORS)
    assert set(BLOCKS) >= {cls for cls in ops.OPERATORS.values() if cls.inputs and not issubclass(cls, ops.RMSNorm)}
    assert all(cls.source.is_file() for cls in ops.OPERATORS.values() if cls.inputs)


def test_a_kind_that_is_nowhere():
    """A new kind is refused, not taken for another one."""
    @dataclass(frozen=True, kw_only=True, eq=False)
    class Other(ops.Operator):
        pass

    artifact = random_artifact(NO_NORM)
    nodes = [replace(node, kind="Other") if node.name == "embed" else node for node in artifact.graph]
    with pytest.raises(EmambaError, match=r"^node 'embed': there is no operator 'Other'; the operators are Input, "):
        Graph(tuple(nodes), artifact.graph.outputs)
    other = replace(artifact, operators=artifact.operators | {"embed": Other(o=IntFormat(8))})
    with pytest.raises(EmambaError, match=r"^node 'embed': there is no block for a Linear; register one "):
        fold(other, artifact.graph["embed"], 8, REALIZATION)
    with pytest.raises(EmambaError, match=r"^there is no C of Other$"):
        IntegerLoop(other)
    with pytest.raises(TypeError, match="the block Mute must say in `stores` what its RAMs hold, or None"):
        type("Mute", (Spec,), {})
