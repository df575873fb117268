"""Graphs beyond the models that are here: another rate of tokens, shared parameters, several outputs."""

from dataclasses import dataclass, replace

import numpy as np
import pytest

from emamba import ops
from emamba.artifact import Codec, load, save
from emamba.base.errors import DesignLimit, InputError
from emamba.base.formats import IntFormat
from emamba.config import ModelConfig, QuantizeConfig
from emamba.graph import MODELS, Builder, Graph, build_graph, model
from emamba.ops.base import check_input
from emamba.quantization.quantize import quantize
from emamba.run.integer import IntegerModel
from emamba.run.reference import Reference
from rtl.kit import registry
from rtl.kit.block import Elementwise, transfers
from rtl.kit.datapath import Pipeline
from rtl.kit.hdl import Mux, Signal
from rtl.kit.registry import realizes
from rtl.plan.schedule import Schedule
from sim.executor import RtlExecutor

CONFIG = {"input": "sequence", "features": 3, "length": 12, "d_model": 5, "inner": 7, "blocks": 1, "task": "regression",
          "outputs": 2}


@dataclass(frozen=True, kw_only=True, eq=False)
class Half(ops.Operator):
    """The second of every two tokens."""

    channels: int
    i: IntFormat

    @property
    def width(self):
        return self.channels

    @classmethod
    def output_tokens(cls, node, tokens):
        return tokens // 2

    @classmethod
    def real(cls, xp, node, parameters, x):
        return x[:, 1::2]

    @classmethod
    def follows(cls, node):
        return True

    @classmethod
    def quantize(cls, node, q):
        i = q.formats[node.name] = q.formats[node.inputs[0]]
        return cls(channels=node.width, i=i, **q.common(node))

    def check_inputs(self, producers):
        check_input("half", producers[0], self.channels, self.i)

    def __call__(self, x):
        return x[:, 1::2]


@dataclass(frozen=True)
class HalfBlock(Elementwise):
    op: Half
    lanes: int

    latency = 1

    @classmethod
    def fold(cls, op, stage):
        return cls(op, stage.lanes(op.channels))

    def schedule(self, arrivals):
        taken = transfers(arrivals)
        return taken, [t + self.latency for k, t in enumerate(taken) if k // self.output.beats % 2]

    def circuit(self, m, block, platform):
        pipeline, beats = Pipeline(m, block.o), self.output.beats
        taken, odd, start, beat = pipeline.join(block.i), Signal(), Signal(), Signal(range(beats))
        with m.If(taken & pipeline.advance):
            m.d.sync += beat.eq(Mux(beat == beats - 1, 0, beat + 1))
            with m.If(beat == beats - 1):
                m.d.sync += [odd.eq(~odd), start.eq(block.i.payload.first)]
        lanes = [pipeline.register(x, "y") for x in block.i.payload.data]
        pipeline.finish(lanes, start, block.i.payload.last, taken & odd, self.latency)


def halved(g: Builder) -> str:
    """Two nodes with the same weights on both sides of a change of rate, then a residual of half the tokens."""
    x = g.linear("before", g.x, g.config.d_inner, tensors="shared")
    x = g.add("Half", "half", (g.activation("silu", x, "silu"),), g.width(x))
    back = g.linear("back", x, g.config.d_model)
    again = g.linear("after", back, g.config.d_inner, tensors="shared")
    return g.residual("residual", x, again)


@pytest.fixture(scope="module", autouse=True)
def registered():
    ops.register(Half)
    realizes(Half)(HalfBlock)
    model("halved")(halved)
    yield
    del ops.OPERATORS["Half"], registry.BLOCKS[Half], MODELS["halved"]


def made(**changes):
    """An artifact with random weights, and inputs."""
    config = ModelConfig(form="halved", **CONFIG | changes)
    graph, rng = build_graph(config), np.random.default_rng(1)
    weights = {name: rng.normal(0, 0.5, shape).astype(np.float32) for name, shape in graph.tensors.items()}
    x = rng.normal(size=(20, config.tokens, 3))
    codec = Codec(np.zeros(3), np.ones(3), np.ones(2), np.zeros(2))
    return quantize("halved", config, weights, codec, x, QuantizeConfig()), x


@pytest.mark.parametrize("pool, cycles", [("mean", 1), ("mean", 20), ("none", 3)])
def test_every_beat_in_its_cycle(cycles, pool, tmp_path):
    """Values, cycles and high-water marks of the hardware at another rate of tokens."""
    artifact, x = made(pool=pool)
    integers = artifact.codec.encode(x, artifact.input)
    expected = IntegerModel(artifact).answer(integers)
    assert expected.shape == (20, 1 if pool == "mean" else 6, 2)
    rtl = RtlExecutor(artifact, cycles, tmp_path, fast=False)
    assert np.array_equal(rtl.answer(integers), expected)
    schedule, result = rtl.schedule, rtl.last
    found = result.output_cycles - result.first_input
    assert found.tolist() == schedule.timetable(20)
    frame = len(found) // 20
    assert found[frame - 1] == schedule.latency and (np.diff(found[frame - 1::frame]) == schedule.cycles_per_frame).all()


def test_shared_parameters_are_one_tensor(tmp_path):
    artifact, x = made()
    assert artifact.graph["before"].parameters == artifact.graph["after"].parameters
    assert [name for name in artifact.weights if name.startswith("shared")] == ["shared.weight", "shared.bias"]
    save(artifact, tmp_path / "a")
    again = load(tmp_path / "a")
    assert again.graph == artifact.graph and again.operators == artifact.operators
    real = Reference(again.graph, again.weights).run(x)
    assert np.allclose(real["half"], (lambda y: y / (1 + np.exp(-y)))(real["before"])[:, 1::2])


def test_shared_parameters_of_two_shapes_are_refused():
    artifact, _ = made()
    other = replace(artifact.graph["back"], parameters=artifact.graph["before"].parameters)
    nodes = tuple(other if node.name == "back" else node for node in artifact.graph)
    with pytest.raises(InputError, match=r"^node 'back': it needs the tensor 'shared.weight' in the shape \[5, 7\], another node "
                                         r"in \[7, 5\]$"):
        Graph(nodes, artifact.graph.outputs)


def test_several_outputs_run_in_software_and_are_refused_in_hardware():
    artifact, x = made()
    both = replace(artifact, graph=Graph(artifact.graph.nodes, ("head", "half")))
    integers = artifact.codec.encode(x, artifact.input)
    values = IntegerModel(both).run(integers, both.graph.outputs)
    assert set(values) == {"head", "half"} and np.array_equal(values["head"], IntegerModel(artifact).answer(integers))
    with pytest.raises(DesignLimit, match=r"^the model has 2 outputs \(head, half\); exactly one is possible here$"):
        Schedule(both, 4)


def test_a_node_of_the_same_name():
    g = Builder(ModelConfig(**CONFIG))
    g.linear("x", g.x, 4)
    with pytest.raises(InputError, match=r"^there are two nodes 'x'; give each node a name of its own$"):
        g.linear("x", "x", 5)
