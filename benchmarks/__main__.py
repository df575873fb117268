"""Measures, and writes docs/benchmarks.json, docs/benchmarks.md and the plot. `make bench` runs all sections;
`python -m benchmarks SECTION …` only some, and keeps the others' figures."""

import json
import sys
from pathlib import Path

import numpy as np

from emamba import datasets
from emamba.artifact import load
from emamba.datasets.tokens import to_tokens
from emamba.errors import EmambaError
from emamba.files import write_file

from . import accuracy, cpu, growth, norms, resources, schedules, simulation

DOCS = Path("docs")
MODEL = Path("models/mars")
FRAMES = 1000
SECTIONS = {"schedules": schedules, "simulation": simulation, "resources": resources, "norms": norms, "cpu": cpu,
            "growth": growth, "accuracy": accuracy}
WITH_DATA = (simulation, cpu)


def main(names: list[str]) -> None:
    unknown = set(names) - set(SECTIONS)
    if unknown:
        raise EmambaError(f"there is no section '{min(unknown)}'; choose some of {', '.join(SECTIONS)}")
    artifact = load(MODEL)
    tokens = to_tokens(datasets.load("mars", "official").x_test[:FRAMES], artifact.config).astype(np.float64)
    path = DOCS / "benchmarks.json"
    kept = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    result = {"model": {"name": artifact.name, "digest": artifact.digest, "tokens": artifact.config.tokens}}
    for name, section in SECTIONS.items():
        if names and name not in names:
            if name in kept:
                result[name] = kept[name]
            continue
        print(f"{name} …", file=sys.stderr, flush=True)
        result[name] = section.measure(artifact, tokens) if section in WITH_DATA else section.measure(artifact)
    write_file(path, lambda target: target.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8"))
    if "schedules" in result:
        schedules.plot(result["schedules"], DOCS)
    lines = ["# Benchmarks", "", "Written by `make bench`; the same figures are in `benchmarks.json`.", ""]
    for name, section in SECTIONS.items():
        if name in result:
            lines += [*section.table(result[name]), ""]
    write_file(DOCS / "benchmarks.md", lambda target: target.write_text("\n".join(lines), encoding="utf-8"))


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except EmambaError as error:
        sys.exit(f"benchmarks: {error}")
