"""What microcontrollers take, measured in qemu: `python -m benchmarks.microcontrollers [SECTION …] [--engine OBJECT …]` writes
docs/microcontrollers.json and the tables of docs/microcontrollers.md."""

import argparse
import sys
from functools import partial
from itertools import cycle
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from boards.describe import golden_frames
from emamba.artifact import SHIPPED, Artifact, load, of_length
from emamba.base.door import guarded
from emamba.base.errors import ToolFailed
from emamba.micro.measure import CORES, Measured, measure
from emamba.micro.project import Project
from sim.models import SHAPES, random_artifact, random_inputs

from . import floating, sections

Array = np.ndarray

LONG, FIRST = 100, 32
"""Tokens from which sequences run for long, and so many of theirs."""
TARGETS = "m4", "m0", "rv32"
GRAPHS, FRAMES = 20, 3
TITLES = {"m0": "Cortex-M0", "m4": "Cortex-M4", "m33": "Cortex-M33", "m55": "Cortex-M55", "rv32": "RV32IMAC"}


def on(artifact: Artifact, cores: tuple[str, ...], frames: Array) -> tuple[Project, dict[str, Measured]]:
    """Its C, and what `frames` take on each core. Raises ToolFailed where a result is not the integer model's."""
    project = Project(artifact, frames)
    with TemporaryDirectory() as folder:
        project.write(Path(folder))
        found = {core: measure(Path(folder), core, project.source.ram) for core in cores}
    if wrong := [core for core, one in found.items() if one.wrong]:
        raise ToolFailed(f"a result of {artifact.name} differs from the integer model's on {', '.join(wrong)}")
    return project, found


def sizes() -> list[dict]:
    """Of every artifact that ships."""
    rows = []
    for manifest in sorted(Path("models").glob("*/manifest.json")):
        artifact = load(manifest.parent)
        digest, long = artifact.digest[:16], artifact.graph.length > LONG and not artifact.graph.pooled
        artifact = of_length(artifact, FIRST) if long else artifact
        project, found = on(artifact, TARGETS, golden_frames(artifact)[:1])
        rows.append({"artifact": artifact.name, "digest": digest, "tokens": project.artifact.graph.length, "first": long,
                     "ram": project.source.ram, "stack": found["m4"].stack, "flash": found["m4"].flash,
                     "multiplications": project.multiplications}
                    | {core: one.instructions for core, one in found.items()})
        print(rows[-1], file=sys.stderr, flush=True)
    return rows


def cores(artifact: Artifact) -> list[dict]:
    """Of one artifact, on every core."""
    return [one.report() for one in on(artifact, tuple(CORES), golden_frames(artifact)[:1])[1].values()]


def graphs() -> list[dict]:
    """Random weights in shapes of `sim.models`, on every core."""
    shapes = [name for name, shape in SHAPES.items() if shape.get("length", 0) <= LONG]
    answers = 0
    for seed, name in zip(range(GRAPHS), cycle(shapes)):
        artifact = random_artifact(name, seed)
        frames = artifact.codec.encode(random_inputs(artifact.config, FRAMES, seed), artifact.input)
        answers += on(artifact, tuple(CORES), frames)[0].answers.size
    return [{"core": core, "graphs": GRAPHS, "answers": answers, "differences": 0} for core in CORES]


def table_sizes(rows: list[dict]) -> list[str]:
    return ["| artifact | RAM | stack | flash | multiplications | instructions, M4 | each | M0 | RV32IMAC |",
            "| --- " * 9 + "|",
            *(f"| `{row['artifact']}`{f', {FIRST} tokens' if row['first'] else ''} | {row['ram']:,} | {row['stack']:,} "
              f"| {row['flash']:,} | {row['multiplications']:,} | {row['m4']:,} | {row['m4'] / row['multiplications']:.2f} "
              f"| {row['m0']:,} | {row['rv32']:,} |" for row in rows)]


def table_cores(rows: list[dict]) -> list[str]:
    return ["| `mars` on | flash | stack | instructions |", "| --- " * 4 + "|",
            *(f"| {TITLES[row['core']]} | {row['flash']:,} | {row['stack']:,} | {row['instructions']:,} |" for row in rows)]


def table_graphs(rows: list[dict]) -> list[str]:
    return ["| random graphs on | graphs | results | differences |", "| --- " * 4 + "|",
            *(f"| {TITLES[row['core']]} | {row['graphs']} | {row['answers']:,} | {row['differences']} |" for row in rows)]


SECTIONS = {"sizes": (sizes, table_sizes), "cores": (cores, table_cores), "graphs": (graphs, table_graphs),
            "floating": (floating.measured, floating.table)}


def main(words: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.microcontrollers", description=__doc__)
    parser.add_argument("sections", nargs="*", help=f"some of {', '.join(SECTIONS)}; without any, those that need no engine")
    parser.add_argument("--engine", type=Path, action="append", default=[], help="an object of an engine in float32, as "
                        "floating.c calls it")
    options = parser.parse_args(words)
    wanted = options.sections or ["sizes", "cores", "graphs", *(["floating"] if options.engine else [])]
    artifact = load(SHIPPED)
    bound = {"sizes": sizes, "cores": partial(cores, artifact), "graphs": graphs,
             "floating": partial(floating.measured, options.engine)}
    found = sections.measure("microcontrollers", bound, wanted, artifact)
    sections.replace_tables("microcontrollers", [table(found[name]) for name, (_, table) in SECTIONS.items() if name in found])


if __name__ == "__main__":
    sys.exit(guarded("benchmarks.microcontrollers", lambda: main(sys.argv[1:])))
