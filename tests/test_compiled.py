"""The compiled loop is the integer model: every head's integers, of all shapes, of wide types, of MARS; and the executor
gives the same with it and without."""

import platform
import re
import subprocess
from dataclasses import replace
from functools import cache
from types import SimpleNamespace

import numpy as np
import pytest

from emamba import datasets
from emamba.artifact import load
from emamba.base.errors import EmambaError
from emamba.base.formats import IntFormat
from emamba.config import ModelConfig
from emamba.datasets.tokens import executor_tokens
from emamba.graph import build_graph
from emamba.ops import Activation, Conv1d, Linear, RangeNorm, Scan
from emamba.run import compiled, executors, lanes
from emamba.run.compiled import IntegerLoop
from emamba.run.executors import make_executor, predict
from emamba.run.integer import IntegerModel
from sim.models import SHAPES, random_artifact, random_inputs

SETTINGS = {
    "emamba-odd": {"weight_scale": "dyadic", "rounding": "half_even"},
    "emamba-three-blocks": {"residual_bits": 8, "input_term": "delta_b", "rule": "chord"},
    "standard-image": {"rule": "exact", "rounding": "truncate"},
    "standard-tokens": {"activation_bits": 6, "weight_bits": 5, "state_scale": "calibrated", "state_bits": 16},
}
WIDE = [
    ("emamba-three-blocks", {"state_bits": 40, "hold": False, "rounding": "half_even"}, "STATE"),
    ("emamba-odd", {"input_term": "delta_b", "state_bits": 40, "weight_scale": "dyadic", "rounding": "truncate"}, "STATE"),
    ("standard-image", {"activation_bits": 14, "residual_bits": 16, "output_bits": 24, "weight_bits": 12, "bits": {"*.dt": 8}},
     "SUM"),
]
"""What needs 64 bits, and where."""


THREADS = 3
OPTIMIZED = ("emamba-image", "emamba-layer-norm", "hybrid-attention", "mamba2-norm-before", "pointwise-gated-pool")
"""Shapes that are compiled as they are used: every operator, and a scan in vectors. The others take a third of the time."""
AS_USED, PLAIN = compiled.FLAGS, ("-O0", "-std=gnu11", "-shared", "-fPIC")
QUICK = (*PLAIN, "-march=native")
NARROW = ("-mno-avx512f", "-mno-avxvnni") if platform.machine() == "x86_64" else ()
"""Without what AVX2 has not."""


@pytest.fixture(autouse=True)
def threads(monkeypatch):
    monkeypatch.setattr(executors, "THREADS", THREADS)


@pytest.fixture(autouse=True, scope="module")
def own():
    """What is compiled here stays here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compiled, "_compile", cache(compiled._compile.__wrapped__))
        yield


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Compiled without optimization, unless a test says else."""
    monkeypatch.setattr(compiled, "FLAGS", QUICK)


@pytest.fixture
def fresh(monkeypatch):
    """Nothing is compiled before, and what is stays in the test."""
    monkeypatch.setattr(compiled, "_compile", cache(compiled._compile.__wrapped__))


@pytest.fixture
def loops(monkeypatch):
    """Numbers of sequences, a call, that compiled loops compute."""
    counts, run = [], IntegerLoop.run

    def counted(self, tokens, threads=1):
        counts.append(len(tokens))
        return run(self, tokens, threads)

    monkeypatch.setattr(IntegerLoop, "run", counted)
    return counts


def check(artifact, tokens):
    integers = artifact.codec.encode(tokens, artifact.input)
    expected = IntegerModel(artifact).answer(integers)
    loop = IntegerLoop(artifact)
    np.testing.assert_array_equal(loop.run(integers), expected)
    np.testing.assert_array_equal(loop.run(integers[:1]), expected[:1])
    np.testing.assert_array_equal(loop.run(integers, THREADS), expected)
    assert len(np.unique(expected)) > 1
    return loop


def test_every_operator_is_optimized():
    def kinds(names):
        return {node.kind for name in names for node in build_graph(ModelConfig(**SHAPES[name]))}

    assert kinds(OPTIMIZED) == kinds(SHAPES)


@pytest.mark.parametrize("shape", SHAPES)
def test_shape(shape, monkeypatch):
    monkeypatch.setattr(compiled, "FLAGS", AS_USED if shape in OPTIMIZED else QUICK)
    artifact = random_artifact(shape, **SETTINGS.get(shape, {}))
    check(artifact, random_inputs(artifact.config, 12, seed=5))


@pytest.mark.parametrize("shape, settings, kind", WIDE)
def test_wide(shape, settings, kind):
    artifact = random_artifact(shape, **settings)
    loop = check(artifact, random_inputs(artifact.config, 12, seed=5))
    assert loop.types[kind] == "int64"


@pytest.mark.parametrize("shape", ["standard-sequence", "emamba-three-blocks", "mamba2-groups"])
def test_exp_of_its_argument(shape, monkeypatch):
    """Where Ā of every δ would be too large a table, of δ·A that exp reads whole or rounded."""
    monkeypatch.setattr("emamba.ops.decay.TABLE_SIZE", 0)
    for settings in ({}, {"activation_bits": 12, "bits": {"block*.dt": 14}, "hold": False, "state_scale": "calibrated"}):
        artifact = random_artifact(shape, **SETTINGS.get(shape, {}) | settings)
        op = artifact.operators["block0.y"]
        assert (op.decay.i.bits < op.p.bits) == bool(settings) and not op.tabulated
        check(artifact, random_inputs(artifact.config, 12, seed=5))


def functions(loop):
    """Names of the C of vectors, by node."""
    return {name: found[0] for name, op in loop.artifact.operators.items() if (found := lanes.in_lanes(op, loop))}


EMULATED = (*QUICK, "-DEMULATED_DOT"), (*QUICK, "-DEMULATED_DOT", "-DEMULATED_TWINS", "-DOFFSET=0"), (*AS_USED, *NARROW), PLAIN


def test_mars(monkeypatch, fresh):
    """In vectors: as this machine has them; with products of bytes as VNNI and NEON have them, and with twins, in plain C; by
    AVX2 alone; all as the compiler makes them. And in the operators' plain C."""
    monkeypatch.setattr(compiled, "FLAGS", AS_USED)
    artifact = load("models/mars")
    frames = executor_tokens(datasets.load("mars", "official").x_test[:20], artifact.config)
    loop = check(artifact, frames)
    assert loop.types == {"VALUE": "int16", "SUM": "int32", "STATE": "int32"}
    rows, offset, _ = loop.bytes
    narrow = min(rows, 4) if NARROW else rows
    for flags, *wanted in zip((AS_USED, *EMULATED), (rows, 8, 8, narrow, 0), (offset, 128, 0, offset, 128), strict=True):
        monkeypatch.setattr(compiled, "FLAGS", flags)
        compiled._compile.cache_clear()
        other = check(artifact, frames[:3])
        assert [*other.bytes[:2]] == wanted and ("linear_bytes" in functions(other).values()) == bool(wanted[0])
        vectors = Linear | Conv1d | RangeNorm | Scan | (Activation if other.tables else Scan)
        assert set(functions(other)) == {name for name, op in artifact.operators.items() if isinstance(op, vectors)}
    plain, integers = IntegerLoop(artifact, vectors=False), artifact.codec.encode(frames, artifact.input)
    assert plain.types["VALUE"] == "int32" and np.array_equal(plain.run(integers), loop.run(integers))


def test_vectors_that_are_wrong_are_not_used(monkeypatch, fresh, capfd, tmp_path):
    artifact, source, before = random_artifact("emamba-image"), tmp_path / "vectors.c", "/* Whether every"
    wrong = "#ifndef PLAIN_VECTORS\n#undef shift_right\n#define shift_right(x, bits) (plain_shift_right(x, bits) + 1)\n#endif\n"
    source.write_text(lanes.SOURCES[0].read_text(encoding="utf-8").replace(before, wrong + before), encoding="utf-8")
    monkeypatch.setattr(lanes, "SOURCES", (source, lanes.SOURCES[1]))
    monkeypatch.setattr(compiled, "FLAGS", PLAIN)
    compiled.say.cache_clear()
    assert check(artifact, random_inputs(artifact.config, 3, seed=5)).bytes[0] == 0
    said = capfd.readouterr().err
    assert re.fullmatch(r"emamba: primitive 3 of \S+vectors\.c differs from its plain C on this machine; the plain C computes "
                        r"instead, several times slower\n", said)


@pytest.mark.parametrize("flags", ["-mavx2 -mavx512vnni -mavx512vl", "-mavx2 -mavxvnni",
                                   "-mavx2 -mavx512vnni -mavx512vl -mavx512bw -mavx512vbmi"])
def test_instructions_for_bytes_are_compiled(flags):
    """Which this machine need not have."""
    program = f'#define PLACE int64_t\n#define LANES 8\n#include "{compiled.ARITHMETIC}"\n#include "{lanes.SOURCES[0]}"\n'
    command = [*compiled.compiler(), "-O1", "-std=gnu11", *flags.split(), "-Wall", "-Werror", "-S", "-x", "c", "-", "-o", "-"]
    done = subprocess.run(command, input=program, capture_output=True, text=True)
    assert not done.returncode, done.stderr
    assert "vpdpbusd" in done.stdout and "vpdpwssd" in done.stdout and ("vpermb" in done.stdout) == ("vbmi" in flags)


def test_sums_of_bytes():
    """Every weight is there once, and no lane exceeds the limit; of the largest weights, and of none."""
    random = np.random.default_rng(1)
    for scale, limit in ((127, 128), (20, 128), (127, 0), (0, 128)):
        weight = np.clip(np.rint(random.normal(0, scale / 2 + 1e-9, (21, 39))), -127, 127).astype(int)
        steps, table = lanes.in_sums(weight, limit)
        left, step, found = iter(table), 0, np.zeros((24, 40), int)
        for block in (16, 8, 0):
            for _ in range(next(left)):
                places = [next(left) for _ in range(next(left))]
                part = steps[step:step + len(places)]
                step += len(places)
                for place, four in zip(places, part, strict=True):
                    found[block:block + 8, place:place + 4] += four
                pairs = part.reshape(-1, 8, 2, 2)
                largest = max(np.maximum(sign * pairs, 0).sum((0, 3)).max() for sign in (1, -1))
                assert not limit or largest <= limit
        assert step == len(steps) and next(left, None) is None
        assert np.array_equal(found[:21, :39], weight) and not found[21:].any() and not found[:, 39:].any()


def scan(**settings):
    """An artifact with states of two vectors, and channels that do not fill one; what its scan is compiled for, or None."""
    artifact = random_artifact(ModelConfig(**SHAPES["emamba-odd"] | {"d_state": 16}), **settings)
    return artifact, lanes.macros(artifact.operators.values()) if lanes._fits(artifact.operators["block0.y"]) else None


@pytest.mark.parametrize("flags", [QUICK, (*QUICK, *NARROW), (*QUICK, "-DEMULATED_DOT", "-DEMULATED_TWINS"), PLAIN],
                         ids=["native", "narrow", "twins", "plain"])
def test_scan_in_vectors(flags, monkeypatch, fresh):
    monkeypatch.setattr(compiled, "FLAGS", flags)
    found = []
    for settings in ({}, {"state_scale": "calibrated", "rounding": "truncate"},
                     {"activation_bits": 10, "bits": {"block*.dt": 10}}):
        artifact, macros = scan(**settings)
        assert functions(check(artifact, random_inputs(artifact.config, 5, seed=5)))["block0.y"] == "scan_lanes"
        found.append(tuple(macros.values()))
    assert found == [(1, 0, 1), (0, 1, 0), (0, 0, 1)]  # (1, 0, 0) is that of MARS
    assert scan(rounding="half_even")[1] is scan(input_term="delta_b")[1] is None
    monkeypatch.setattr(lanes, "certify", lambda op: SimpleNamespace(holds=False))
    assert tuple(scan()[1].values()) == (1, 1, 1)


def test_limits_of_every_format():
    """Inputs at both ends of their format, where everything saturates that can."""
    artifact = random_artifact("emamba-image")
    ends = np.random.default_rng(1).choice([artifact.input.min, artifact.input.max], (50, 4, artifact.config.input_width))
    np.testing.assert_array_equal(IntegerLoop(artifact).run(ends), IntegerModel(artifact).run(ends)["head"])


def test_refusals(monkeypatch, fresh):
    artifact = random_artifact("emamba-image")
    loop = IntegerLoop(artifact)
    with pytest.raises(EmambaError, match=r"the C loop reads \[sequences, 4, 12\]"):
        loop.run(np.zeros((1, 5, 12), np.int64))
    with pytest.raises(EmambaError, match="outside"):
        loop.run(np.full((1, 4, 12), artifact.input.max + 1))
    signed = random_artifact("emamba-per-token")
    lookup = replace(signed.operators["embed"], i=IntFormat(5))
    with pytest.raises(EmambaError, match="unsigned token ids"):
        IntegerLoop(replace(signed, operators=signed.operators | {"embed": lookup}))
    with monkeypatch.context() as patch:
        patch.setattr(compiled, "LARGEST_TABLE", 100)
        with pytest.raises(EmambaError, match="the C loop has at most 100"):
            IntegerLoop(artifact)
    with monkeypatch.context() as patch:
        patch.setattr(compiled, "LARGEST_MEMORY", 1000)
        with pytest.raises(EmambaError, match="the values of 4 tokens need more than"):
            IntegerLoop(artifact)
    compiled._compile.cache_clear()
    monkeypatch.setenv("CC", "false")
    with pytest.raises(EmambaError, match=r"false cannot compile .*compiled\.c"):
        IntegerLoop(artifact)
    monkeypatch.delenv("CC")
    monkeypatch.setenv("PATH", "")
    with pytest.raises(EmambaError, match="needs the C compiler cc"):
        IntegerLoop(artifact)


def test_one_compilation_of_the_same_types(fresh):
    for seed in (1, 2):
        IntegerLoop(random_artifact("emamba-image", seed))
    assert compiled._compile.cache_info().misses == 1


@pytest.mark.parametrize("shape", SHAPES)
def test_executor(shape, loops):
    artifact = random_artifact(shape, **SETTINGS.get(shape, {}))
    output = artifact.graph.output.name
    count = -(-executors.COMPILED_TOKENS // artifact.config.tokens) + 1
    tokens = random_inputs(artifact.config, count, seed=6)
    executor = make_executor(artifact, "int")
    expected = IntegerModel(artifact).run(artifact.codec.encode(tokens, artifact.input))
    result = executor(tokens, [output])
    assert list(result) == [output] and result[output].dtype == np.int64
    np.testing.assert_array_equal(result[output], expected[output])
    assert loops == [count]
    every = executor(tokens, None)
    assert list(every) == list(expected)
    np.testing.assert_array_equal(every[output], expected[output])
    np.testing.assert_array_equal(executor(tokens[:1], [output])[output], expected[output][:1])
    assert loops == [count]


@pytest.mark.parametrize("variable, value", [("CC", "no-such-compiler"), ("CC", "false"), ("PATH", "")])
def test_executor_without_a_compiler(variable, value, monkeypatch, fresh, loops):
    artifact = random_artifact("emamba-image")
    tokens = random_inputs(artifact.config, 2000, seed=6)
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setenv(variable, value)
    result = make_executor(artifact, "int")(tokens, ["head"])
    expected = IntegerModel(artifact).run(artifact.codec.encode(tokens, artifact.input), ["head"])
    np.testing.assert_array_equal(result["head"], expected["head"])
    assert not loops


def test_executor_on_another_length(loops):
    artifact = random_artifact("standard-tokens")
    longer = np.random.default_rng(1).integers(0, 5, (2000, 13, 1))
    result = make_executor(artifact, "int")(longer, ["head"])
    np.testing.assert_array_equal(result["head"], IntegerModel(artifact).run(longer)["head"])
    assert not loops


def test_batches(monkeypatch):
    """A batch's widest node stays below the limit, and the values are those of one batch."""
    artifact = random_artifact("emamba-per-token")
    tokens, sizes = random_inputs(artifact.config, 20, seed=6), []
    executor = make_executor(artifact, "int")

    def counted(part, keep):
        sizes.append(len(part))
        return executor(part, keep)

    whole = predict(artifact, "int", counted, tokens)
    widest = max(op.width for op in artifact.operators.values())
    monkeypatch.setattr(executors, "BATCH_VALUES", 8 * 6 * widest)
    np.testing.assert_array_equal(predict(artifact, "int", counted, tokens), whole)
    monkeypatch.setattr(executors, "BATCH_VALUES", 1)
    np.testing.assert_array_equal(predict(artifact, "int", counted, tokens[:2]), whole[:2])
    assert sizes == [20, 8, 8, 4, 1, 1] and whole.shape == (20, 6, 11)
