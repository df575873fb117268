"""Fits the cost model to Yosys, and writes rtl/plan/costs.json: `python -m benchmarks.calibrate [FAMILY ...]`.

Components of some accelerators and the small blocks of the benches are synthesized, each alone. Other accelerators test the fit.
"""

import json
import re
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from emamba.artifact import load
from emamba.base.door import guarded
from emamba.io.files import write_file
from rtl.kit.datapath import Products
from rtl.kit.emit import parts, to_verilog
from rtl.kit.inventory import Inventory
from rtl.plan import cost
from rtl.plan.accelerator import Accelerator
from rtl.plan.schedule import Realization, Schedule
from sim.bench import Together
from sim.cases import BLOCKS

from .synthesis import synthesize_apart

PATH = Path(cost.__file__).with_name("costs.json")
PAIRS, NARROW = Realization(Products.PAIRS), Realization(narrow=True)
FITTED = {"xcup": [("models/mars", 32, PAIRS)], "ecp5": [("models/mars", 64, NARROW)], "ice40": [], "gates": []}
HELD_OUT = {"xcup": [("models/mars", 20, PAIRS), ("models/mars_int8", 48, PAIRS)], "ecp5": [("models/mars", 128, NARROW)],
            "ice40": [], "gates": []}
"""Accelerators whose components are fitted, and those that only test the fit: artifact, T, realization."""
SMALL = ("constants|dyadic|delta_b|logic|range_norm-(20-1-|5-2)|activation-silu$|scan-(3-3-1-1|2-3-2-3$)|pool-6-2-True"
         "|add-|multiply-5|linear-(65|5-7|9-3|17-5-4-2$)|conv1d-(8-4-2-2|4-2)|lookup-11")
"""Of the blocks of the benches those that are fitted: kinds and shapes that the accelerators lack."""
LIMITS = {"lut": 0.10, "nand2": 0.25, "ff": 0.05, "dsp": 0.0, "bram36": 0.0, "ebr": 0.0, "memory_bits": 0.0}
MOST = {"xcup": 1000, "ecp5": 1000, "ice40": 1000, "gates": 7000}
"""Lookup tables, or NAND2, of a component that is synthesized, by estimate: larger ones are the same circuits with more lanes,
and take most of the time."""
ROUNDS, FLOOR = 8, 0.03
"""Rounds of least squares, each weighted by the errors of the one before, and the error from which they weigh less."""
LARGE, SMALL_SIZE = 100, 30
"""Lookup tables or flip-flops from which a component's relative error counts; the fit takes smaller ones for the second."""


@dataclass
class Sample:
    """A component: its name, what it is made of, and what Yosys makes of it."""

    name: str
    inventory: Inventory
    measured: dict


def samples(where: str, cycles: int, realization: Realization, family: str) -> list[Sample]:
    """Components of an accelerator. Of its model's blocks, which differ by their weights alone, one is synthesized."""
    schedule = Schedule(load(where), cycles, realization)
    texts, kinds = parts(to_verilog(Accelerator(schedule))), {}
    for name, (_, inventory) in cost.components(schedule).items():
        if fits(inventory, family):
            kinds.setdefault(re.sub(r"block\d+", "block", name), (name, inventory))
    distinct = {texts[name.replace(".", "_")]: (name, inventory) for name, inventory in kinds.values()}
    return [Sample(f"{Path(where).name} T={cycles} {name}", inventory, measured) for (name, inventory), measured in zip(
        distinct.values(), synthesize_apart(list(distinct), family), strict=True)]


def small(family: str) -> list[Sample]:
    """The blocks of the benches that SMALL names."""
    specs = {name: make() for name, make in BLOCKS.items() if re.search(SMALL, name)}
    specs = {name: spec for name, spec in specs.items() if fits(spec.inventory(), family)}
    texts = parts(to_verilog(Together({f"b{k}": spec.build() for k, spec in enumerate(specs.values())})))
    found = synthesize_apart([texts[f"b{k}"] for k in range(len(specs))], family)
    return [Sample(name, spec.inventory(), measured) for (name, spec), measured in zip(specs.items(), found, strict=True)]


def fits(inventory: Inventory, family: str) -> bool:
    return cost.resources(inventory, family)[cost.RESOURCES[family][0]] <= MOST[family]


def nonnegative(A: np.ndarray, b: np.ndarray, steps: int = 40000) -> np.ndarray:
    """The x ≥ 0 with the least |A·x − b|², by coordinate descent."""
    gram, right, x = A.T @ A, A.T @ b, np.zeros(A.shape[1])
    for k in range(steps):
        j = k % len(x)
        if gram[j, j]:
            x[j] = max(0.0, x[j] + (right[j] - gram[j] @ x) / gram[j, j])
    return x


def fit(found: list[Sample], family: str) -> dict[str, float]:
    """Coefficients of the logic, of the least sum of relative errors: small components count as much as large ones."""
    key = cost.RESOURCES[family][0]
    rows = [cost.mapped(sample.inventory, family) for sample in found]
    names = [name for name in cost.FITTED if name not in ("registers", "resets", "rom_bits") or family == "gates"]
    A = np.array([[row.fitted[name] for name in names] for row in rows])
    b = np.array([sample.measured[key] - row.known[key] for sample, row in zip(found, rows, strict=True)])
    size = np.array([max(SMALL_SIZE, sample.measured[key]) for sample in found])
    A, b, weight = A / size[:, None], b / size, np.ones(len(size))
    for _ in range(ROUNDS):
        x = nonnegative(A * weight[:, None], b * weight)
        weight = np.maximum(np.abs(A @ x - b), FLOOR) ** -0.5
    return dict.fromkeys(cost.FITTED, 0.0) | dict(zip(names, x.round(4).tolist(), strict=True))


def component_errors(found: list[Sample], family: str) -> dict[str, dict]:
    """Per resource the mean and the largest relative error over the large components; of exact ones, of all."""
    errors = {}
    for key in cost.RESOURCES[family]:
        least = LARGE if LIMITS[key] else 1
        pairs = [(cost.resources(sample.inventory, family)[key] / sample.measured[key] - 1, sample.name)
                 for sample in found if sample.measured[key] >= least]
        worst = max(pairs, key=lambda pair: abs(pair[0]), default=(0, ""))
        errors[key] = {"components": len(pairs), "mean": round(float(np.mean([abs(e) for e, _ in pairs] or [0])), 4),
                       "largest": round(worst[0], 4), "of": worst[1]}
    return errors


def design_errors(found: list[Sample], design: tuple, family: str) -> dict:
    """Of the sum of an accelerator's samples."""
    where, cycles, realization = design
    row = {"artifact": Path(where).name, "cycles_per_token": cycles, "products": str(realization.products),
           "decay_tables": bool(realization.decay_tables), "narrow": realization.narrow, "parts": len(found)}
    for key in cost.RESOURCES[family]:
        estimate = sum(cost.resources(sample.inventory, family)[key] for sample in found)
        measured = sum(sample.measured[key] for sample in found)
        row[key] = {"estimate": round(estimate, 1), "yosys": measured,
                    "error": round(estimate / measured - 1, 4) if measured else round(estimate, 1)}
    return row


def main(families: list[str]) -> None:
    for family in families or list(cost.FAMILIES):
        designs = {design: samples(*design, family) for design in FITTED[family]}
        found = [*(sample for each in designs.values() for sample in each), *small(family)]
        report(f"{family}, before", component_errors(found, family))
        entry = cost.COSTS["families"][family] = {"coefficients": fit(found, family)}
        entry |= {"fitted_components": len(found), "errors": component_errors(found, family),
                  "fitted_designs": [design_errors(each, design, family) for design, each in designs.items()],
                  "held_out": [design_errors(samples(*design, family), design, family) for design in HELD_OUT[family]]}
        cost.COSTS["limits"] = LIMITS
        cost.COSTS["tool"] = found[0].measured["tool"]
        report(family, entry["errors"])
        print(entry["coefficients"])
        for kind in ("fitted_designs", "held_out"):
            for row in entry[kind]:
                shown = "  ".join(f"{key} {row[key]['estimate']:.0f} / {row[key]['yosys']:.0f} ({row[key]['error']:+.1%})"
                                  for key in cost.RESOURCES[family])
                print(f"  {kind}: {row['artifact']} T = {row['cycles_per_token']} {row['products']}: {shown}")
        write_file(PATH, lambda path: path.write_text(json.dumps(cost.COSTS, indent=1) + "\n", encoding="utf-8"))


def report(title: str, errors: dict) -> None:
    print(title)
    for key, error in errors.items():
        print(f"  {key:12} {error['components']:4} components  mean {error['mean']:6.1%}  largest {error['largest']:+7.1%}",
              error["of"], flush=True)


if __name__ == "__main__":
    sys.exit(guarded("calibrate", lambda: main(sys.argv[1:])))
