"""Measures, and writes docs/benchmarks.json, docs/benchmarks.md and the plot. `make bench` runs all sections;
`python -m benchmarks SECTION …` only some, and keeps the others' figures."""

import sys
from functools import partial
from pathlib import Path

from emamba import datasets
from emamba.artifact import load
from emamba.base.door import guarded
from emamba.datasets.tokens import executor_tokens

from . import authors, bitstream, cpu, growth, norms, resources, schedules, sections, simulation, system

MODEL = Path("models/mars")
FRAMES = 1000
SECTIONS = {"schedules": schedules, "simulation": simulation, "system": system, "resources": resources,
            "authors": authors, "bitstream": bitstream, "norms": norms, "cpu": cpu, "growth": growth}
WITH_DATA = (simulation, system, cpu)


def main(names: list[str]) -> None:
    artifact = load(MODEL)
    tokens = executor_tokens(datasets.load("mars", "official").x_test[:FRAMES], artifact.config)

    def section(module) -> sections.Section:
        return partial(module.measure, artifact, *([tokens] if module in WITH_DATA else [])), module.table

    result = sections.write(
        "benchmarks", ["# Benchmarks", "", "Written by `make bench`; the same figures are in `benchmarks.json`."],
        {name: section(module) for name, module in SECTIONS.items()}, names, artifact)
    if "schedules" in result:
        schedules.plot(result["schedules"], sections.DOCS)


if __name__ == "__main__":
    sys.exit(guarded("benchmarks", lambda: main(sys.argv[1:])))
