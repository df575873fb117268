"""Adder graphs: their product and their hardware."""

import numpy as np
import pytest
from blocks import check
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from emamba.artifact import load
from emamba.base.errors import EmambaError
from emamba.base.formats import IntFormat
from rtl.kit.adder_graph import Adder, Graph, Term, hardware, solve, stages
from rtl.kit.block import Elementwise, Port
from rtl.kit.datapath import Pipeline, signed_digits
from rtl.kit.packing import pack, sequences
from sim.bench import random_tokens
from sim.native import NativeSimulation

I8 = IntFormat(8)
FORMATS = [I8, IntFormat(12), IntFormat(5, False), IntFormat(1), IntFormat(1, False)]
RNG = np.random.default_rng(0)
MATRICES = {
    "random": RNG.integers(-127, 128, (9, 7)),
    "wide": RNG.integers(-127, 128, (2, 33)),
    "tall": RNG.integers(-127, 128, (33, 2)),
    "sparse": RNG.integers(-127, 128, (8, 9)) * (RNG.random((8, 9)) < 0.2),
    "16 bits": RNG.integers(-(2**15), 2**15, (5, 4)),
    "zero": np.zeros((3, 4), np.int64),
    "zero rows and columns": np.array([[0, 0, 0], [5, 0, -3], [0, 0, 0]]),
    "one": np.array([[1]]),
    "minus one": np.array([[-1]]),
    "one weight": np.array([[-77]]),
    "one column": np.array([[5], [10], [-5], [0], [128]]),
    "powers of two": np.array([[1, -2, 4], [0, 8, 0], [-128, 0, 0]]),
    "duplicates": np.array([[3, 7], [3, 7], [-3, -7], [6, 14]]),
    "all ones": np.ones((4, 8), np.int64),
    "even differences": np.array([[1, 1], [1, -1], [2, 0]]),
}


@pytest.mark.parametrize("name", MATRICES)
def test_product_and_shapes(name):
    matrix = MATRICES[name]
    for i in FORMATS:
        graph = solve(matrix, i)
        x = random_tokens(Port(i, matrix.shape[1], 1), 3, 20)
        assert np.array_equal(graph.evaluate(x), x @ matrix.T)
        worst = np.concatenate([np.where(matrix > 0, i.max, i.min), np.where(matrix > 0, i.min, i.max)])
        assert np.array_equal(graph.evaluate(worst), worst @ matrix.T)


@settings(max_examples=60, deadline=None)
@given(matrix=arrays(np.int64, array_shapes(min_dims=2, max_dims=2, max_side=5), elements=st.integers(-300, 300)))
def test_any_small_matrix(matrix):
    graph = solve(matrix, I8)
    assert np.array_equal(graph.evaluate(np.eye(matrix.shape[1])).T, matrix)
    shapes = graph.shapes(I8)
    assert all(shape.width > 0 for shape in shapes)
    corners = np.array(np.meshgrid(*[[I8.min, I8.max]] * matrix.shape[1])).reshape(matrix.shape[1], -1).T
    for values, shape in zip(graph._values(corners), shapes, strict=True):
        low, high = IntFormat(shape.width, shape.signed).min, IntFormat(shape.width, shape.signed).max
        assert low <= values.min() and values.max() <= high
        assert values.min() < low // 2 or values.max() > high // 2  # no bit more


def test_counts():
    graph = solve(np.array([[7, 0], [7, 1], [0, -2]]), I8)  # 7 = 8 − 1
    assert graph.nodes == (Adder(0, 0, 3, True), Adder(1, 2, 0, True))
    assert graph.outputs == (Term(2, 0, True), Term(3), Term(1, 1, True))
    assert (graph.adders, graph.depth, graph.levels) == (2, 2, [0, 0, 1, 2])
    assert [shape.width for shape in graph.shapes(I8)] == [8, 8, 11, 11]
    assert graph.adder_bits(I8) == 11 - 3 + 11
    assert [stages(graph, levels) for levels in (1, 2, 3)] == [2, 1, 1]
    assert graph.register_bits(I8, 2) == 8 + 11 + 11
    assert graph.register_bits(I8, 1) == 2 * 8 + 2 * 11 + 11


def test_registers_early_and_late():
    """A sum of inputs that are kept anyway is made late; sums of inputs that nothing else needs are made early."""
    shared = Graph(2, (Adder(0, 1, 0, False), Adder(0, 2, 0, False), Adder(1, 3, 0, True), Adder(0, 1, 1, False),
                       Adder(4, 5, 0, False)), (Term(6),))
    assert shared.steps(I8, 1) == [0, 0, 0, 1, 2, 2, 3]
    tree = Graph(5, (Adder(0, 1, 0, False), Adder(2, 3, 0, False), Adder(5, 6, 0, False), Adder(4, 4, 1, False),
                     Adder(7, 8, 0, False)), (Term(9),))
    assert tree.steps(I8, 1)[5:] == [0, 0, 1, 1, 2]


def test_sharing_pays():
    matrix = np.random.default_rng(1).integers(-127, 128, (40, 20))
    graph = solve(matrix, I8)
    digits = sum(1 for weight in matrix.ravel() for _ in signed_digits(int(weight)))
    assert graph.adders < 0.75 * (digits - len(matrix))


class Product(Elementwise):
    """A graph behind one register: all lanes in, all lanes out."""

    def __init__(self, matrix: np.ndarray, i: IntFormat, levels: int):
        self.matrix, self.levels, self.graph = matrix, levels, solve(matrix, i)
        bound = int(np.abs(matrix).sum(axis=1).max()) * i.magnitude
        self.inputs = {"i": Port(i, matrix.shape[1], matrix.shape[1])}
        self.output = Port(IntFormat(bound.bit_length() + 1), len(matrix), len(matrix))

    def model(self, x):
        return x @ self.matrix.T

    @property
    def latency(self):
        return 1 + stages(self.graph, self.levels)

    def circuit(self, m, block, platform):
        pipeline = Pipeline(m, block.o)
        m.d.comb += block.i.ready.eq(pipeline.advance)
        x = [pipeline.register(lane, "x") for lane in block.i.payload.data]
        lanes = hardware(pipeline, self.graph, x, self.inputs["i"].format, self.levels)
        pipeline.finish(lanes, block.i.payload.first, block.i.payload.last, block.i.valid, self.latency)


@pytest.mark.parametrize("name", MATRICES)
def test_hardware(name):
    for levels, i in ((2, I8), (1, IntFormat(5, False)), (3, IntFormat(1))):
        block = Product(MATRICES[name], i, levels)
        check(block, random_tokens(block.inputs["i"], 3, 4), stalls=(0, 40))


def test_hardware_of_a_model(tmp_path):
    """Its Verilog, on random tokens and on those with the greatest and the least value of each output."""
    op = load("models/mars").operators["block0.x"]
    block = Product(op.weight, op.i, 2)
    port, greatest = block.inputs["i"], np.where(op.weight > 0, op.i.max, op.i.min)
    tokens = np.concatenate([random_tokens(port, 30, 40), greatest[None], ~greatest[None]])
    simulation = NativeSimulation(block, tmp_path, fast=False)
    for stall in (0, 40):
        result = simulation.run(pack(port, tokens), 1, stall)
        assert np.array_equal(np.stack(sequences(block.output, result.output)), block.model(tokens))
        if not stall:
            assert np.array_equal(result.output_cycles - result.first_input, block.latency + np.arange(tokens.size // 20))


def test_solved_once():
    matrix = MATRICES["random"]
    assert solve(matrix, I8) is solve(matrix.astype(np.int8).copy(), I8)


def test_wrong_answers_are_refused(monkeypatch):
    monkeypatch.setattr("rtl.kit.adder_graph._csd", lambda matrix, i: Graph(2, (), (Term(0), Term(0))))
    with pytest.raises(EmambaError, match="an adder graph gives another product than that of its matrix of 2 x 2 weights"):
        solve(np.eye(2), I8)
    with pytest.raises(EmambaError, match="at least one weight"):
        solve(np.zeros((3, 0)), I8)
