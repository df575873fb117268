"""What baselines are compared with: another compiler's adder graphs, an analytic array, energy by measured chips, the paper."""

import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

from benchmarks import baselines, energy, outside
from benchmarks.outside import Product, cycles
from emamba.base.errors import Mismatch, ToolMissing
from emamba.base.formats import IntFormat
from rtl.kit.datapath import Products
from rtl.plan.schedule import Realization, Schedule

MATRIX = np.array([[1, 2], [-4, 3], [0, 0]])


def install(monkeypatch, outputs):
    """A compiler that gives x₀ + 2·x₁ and 3·x₁ − 4·x₀, in two parts, with those outputs' places, shifts and signs."""
    def op(opcode, id0, id1=0, data=0):
        return SimpleNamespace(opcode=opcode, id0=id0, id1=id1, data=data)

    keys = "ops", "inp_shifts", "out_idxs", "out_shifts", "out_negs"
    first = [op(-1, 0), op(-1, 1), op(0, 1, 1, 1)], [0, 0], [0, 1, 2], [0, 0, 0], [0, 0, 0]
    second = [op(-1, 0), op(-1, 1), op(-1, 2), op(0, 0, 1, 1), op(1, 0, 2, -2)], [0, 0, 0], *outputs
    module = ModuleType("da4ml.cmvm")
    module.solve = lambda *_, **__: SimpleNamespace(
        solutions=[SimpleNamespace(**dict(zip(keys, part, strict=True))) for part in (first, second)])
    monkeypatch.setitem(sys.modules, "da4ml", ModuleType("da4ml"))
    monkeypatch.setitem(sys.modules, "da4ml.cmvm", module)


def test_the_compilers_graph_is_read_and_checked(monkeypatch):
    install(monkeypatch, ([3, 4, -1], [0, 2, 0], [0, 1, 0]))
    graph = outside.compiled(MATRIX, IntFormat(8, frac=0))
    assert graph.adders == 3 and graph.evaluate(np.array([5, 7])).tolist() == [19, 1, 0]
    install(monkeypatch, ([3, 4, -1], [0, 2, 0], [0, 0, 0]))
    with pytest.raises(Mismatch, match="another product"):
        outside.compiled(MATRIX, IntFormat(8, frac=0))


def test_without_the_compiler_there_is_a_sentence(monkeypatch):
    monkeypatch.setattr(outside, "find_spec", lambda name: None)
    with pytest.raises(ToolMissing, match=r"^the section adders compares with da4ml 0\.6\.0: pip install da4ml==0\.6\.0$"):
        outside.adders()


@pytest.mark.parametrize(("product", "shape", "expected"), [
    (Product(5, 7, 3), (1, 1), 105),
    (Product(5, 7, 3), (2, 2), 4 * 2 * 5 + 2),  # weights stay: 4 × 2 tiles, each as long as 5 rows
    (Product(4, 9, 3), (2, 3), 2 * 9 + 3),  # outputs stay: 2 tiles, each 9 deep
    (Product(4, 9, 3, times=6), (4, 3), 6 * 9 + 5),
    (Product(1, 4, 8), (4, 4), 2 * 4 + 6),  # weights take as long to come
])
def test_cycles_of_an_array(product, shape, expected):
    assert cycles(product, *shape) == expected >= product.multiplies / (shape[0] * shape[1])


def test_energy_is_fitted_to_chips(monkeypatch):
    artifact, chips, truth = energy.load(energy.MODEL), [], energy.Energy(2e-13, 3e-15, 0)
    for requested in (64, 128):
        joules = truth.of(Schedule(artifact, requested, Realization(Products.MERGED)))
        chips.append({"pdk": energy.PROCESS, "requested": requested, "energy_j": {"total": joules}})
    wired = {"pdk": energy.PROCESS, "requested": 1}
    other = {"pdk": energy.PROCESS, "requested": 102, "model": "mars_paper", "energy_j": {"total": 1.0}}
    monkeypatch.setattr(energy, "figures", lambda _: {energy.PROCESS: [*chips, wired], "beside": [other]})
    found = energy.fitted()
    assert np.allclose((found.multiplication, found.flip_flop), (2e-13, 3e-15)) and found.error < 1e-9
    expected = truth.of(Schedule(energy.load("models/mars_paper"), 102, Realization(Products.MERGED)))
    assert found.others == {"mars_paper": (1.0, pytest.approx(expected))}


def test_claims_are_judged_by_the_rows():
    keys = [key for _, key, _, _ in baselines.CLAIMS]
    first, other = dict.fromkeys(keys, 1.0), dict.fromkeys(keys, 1.0) | {"parameters": 2.0, "latency": 5.0}
    rows = [first | {"network": "Mamba", "int": {"rmse": 8.0}}, other | {"network": "attention", "int": {"rmse": 6.0}},
            other | {"network": "convolutions", "latency": 1.5, "int": {"rmse": 9.0}}]
    lines = baselines._claims({"mars": rows})
    assert lines[-1] == "| error of the integers | – | 0.75 times | 1.12 times | – |"
    assert lines[-7:-4] == [
        "| fewer parameters | 1.63 to 19.9 times | 2.00 times | 2.00 times | yes |",
        "| lower latency | 4.95 to 5.62 times | 5.00 times | 1.50 times | beside 1 of 2 |",
        "| more throughput | 2.22 to 9.95 times | 1.00 times | 1.00 times | no |"]
