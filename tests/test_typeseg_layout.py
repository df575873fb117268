"""The file that brings a third-party model in, on a small one of its names: float against the equations, RTL against integers."""

from pathlib import Path

import numpy as np
import pytest

from benchmarks import typeseg
from emamba.api import calibrated, plain_codec, read_model_files
from emamba.config import QuantizeConfig
from emamba.graph import build_graph, import_models
from emamba.run.compiled import IntegerLoop
from emamba.run.integer import IntegerModel
from emamba.run.reference import Reference
from sim.executor import RtlExecutor

D, E, N, RANK, TAPS, BLOCKS, ROWS, CLASSES, LENGTH = 6, 9, 3, 2, 4, 2, 13, 5, 10


def arrays() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    made = {"Embed_0__embedding": rng.normal(size=(ROWS, D))}

    def dense(name, read, out):
        made.update({f"{name}__kernel": rng.normal(size=(read, out)) * read**-0.5, f"{name}__bias": rng.normal(size=out) / 2})

    def norm(name):
        made.update({f"{name}__scale": 1 + rng.normal(size=D) / 2, f"{name}__bias": rng.normal(size=D) / 2})

    for k in range(BLOCKS):
        at = f"CheckpointMambaBlock1D_{k}__"
        norm(f"{at}LayerNorm_0")
        for number, (read, out) in enumerate(((D, 2 * E), (E, RANK + 2 * N), (RANK, E), (E, D))):
            dense(f"{at}Dense_{number}", read, out)
        made |= {f"{at}Conv_0__kernel": rng.normal(size=(TAPS, 1, E)) / 2, f"{at}Conv_0__bias": rng.normal(size=E) / 2,
                 f"{at}A_log": rng.normal(size=(E, N)) / 2, f"{at}D": rng.normal(size=E)}
    norm("LayerNorm_0")
    dense("Dense_0", D, CLASSES)
    return {name: value.astype(np.float32) for name, value in made.items()}


def answer(w: dict[str, np.ndarray], ids: np.ndarray) -> np.ndarray:
    """The equations, for one sequence."""

    def norm(x, at):
        return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-6) * w[f"{at}__scale"] + w[f"{at}__bias"]

    def dense(x, at):
        return x @ w[f"{at}__kernel"] + w[f"{at}__bias"]

    def silu(x):
        return x / (1 + np.exp(-x))

    def scan(u, dt, B, C, A, D):
        h, y = np.zeros(A.shape), []
        for t in range(len(u)):
            h = np.exp(dt[t, :, None] * A) * h + (dt[t] * u[t])[:, None] * B[t]
            y.append(h @ C[t] + D * u[t])
        return np.array(y)

    x = w["Embed_0__embedding"][ids]
    for k in range(BLOCKS):
        at = f"CheckpointMambaBlock1D_{k}__"
        inner, gate = np.split(dense(norm(x, f"{at}LayerNorm_0"), f"{at}Dense_0"), 2, -1)
        padded = np.pad(inner, ((1, 2), (0, 0)))
        u = silu(sum(padded[j:j + len(x)] * w[f"{at}Conv_0__kernel"][j, 0] for j in range(TAPS)) + w[f"{at}Conv_0__bias"])
        low, B, C = np.split(dense(u, f"{at}Dense_1"), (RANK, RANK + N), -1)
        parts = u, np.logaddexp(0, dense(low, f"{at}Dense_2")) + 1e-4, B, C
        fixed = -np.exp(w[f"{at}A_log"]), w[f"{at}D"]
        y = scan(*parts, *fixed) + scan(*(part[::-1] for part in parts), *fixed)[::-1]
        x = x + dense(y * silu(gate), f"{at}Dense_3")
    return dense(norm(x, "LayerNorm_0"), "Dense_0")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    path = tmp_path_factory.mktemp("typeseg") / "small.npz"
    np.savez(path, **arrays())
    import_models(Path(__file__).parents[1] / "benchmarks/typeseg_layout.py")
    return read_model_files(path, LENGTH, "typeseg")


def test_float_outputs_are_those_of_the_equations(model):
    ids = np.random.default_rng(1).integers(0, ROWS, (3, LENGTH))
    found = Reference(build_graph(model.config), model.weights).answer(ids[..., None])
    expected = np.stack([answer({name: value.astype(float) for name, value in arrays().items()}, row) for row in ids])
    np.testing.assert_allclose(found, expected, atol=1e-9)


WIDE = typeseg.SETTINGS.model_copy(update={"formats": {}, "bits": {"block*.dt": 18}})
IDS = np.random.default_rng(1).integers(0, ROWS, (20, LENGTH))


def quantized(model, settings: QuantizeConfig):
    return calibrated("small", model.config, model.weights, plain_codec(model.config), IDS, settings, {})


def test_c_reads_delta_times_a_in_fewer_bits(model, monkeypatch):
    artifact = quantized(model, WIDE)
    op = artifact.operators["block0.y"]
    assert op.decay.i.bits == 18 < op.p.bits
    tokens = artifact.codec.encode(IDS[..., None], artifact.input)
    expected = IntegerModel(artifact).answer(tokens)
    assert np.array_equal(IntegerLoop(artifact).run(tokens), expected)
    monkeypatch.setattr("emamba.ops.decay.TABLE_SIZE", 0)
    again = quantized(model, WIDE)
    for executor in (IntegerModel(again).answer, IntegerLoop(again).run):
        assert np.array_equal(executor(tokens), expected)


@pytest.mark.slow
def test_the_rtl_equals_the_integer_model(model):
    artifact = quantized(model, WIDE)
    tokens = artifact.codec.encode(IDS[:3, :, None], artifact.input)
    expected, found = IntegerModel(artifact).run(tokens), RtlExecutor(artifact, 64, trace=True, fast=False).run(tokens)
    assert set(found) == set(expected) - {"input"}
    for key, values in found.items():
        np.testing.assert_array_equal(values, expected[key], err_msg=key)
