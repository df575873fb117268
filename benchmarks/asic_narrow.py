"""MARS' chip with fewer bits in its state and its weights: a section of `python -m benchmarks.asic`."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from emamba.artifact import Artifact, load
from emamba.base.errors import ToolFailed
from emamba.ops import Scan
from flow import cli

FOLDER = Path("build/narrower")
"""Where the weights that were trained on are found again; an interrupted training goes on."""
STATE = {"state_bits": 16, "state_scale": "calibrated"}
WEIGHTS = {"weight_bits": 4, "weight_scale": "dyadic"}


def narrower(artifact: Artifact, point: Callable[[Artifact], dict]) -> list[dict]:
    """What `point` gives of the shipped model and of narrower ones, each with its settings where they differ, the bits of its
    state and its figures on the test part."""
    from .evaluation import Bench

    bench, rows = Bench(artifact.name), []
    for settings, made in _models(artifact, lambda changes: bench.quantized(**artifact.record["quantize"] | changes)):
        scan = next(op for op in made.operators.values() if isinstance(op, Scan))
        rows.append(point(made) | {"settings": settings, "state": [scan.h_wide.bits, scan.h.bits], **bench.figures(made)})
    return rows


def _models(artifact: Artifact, quantized: Callable[[dict], Artifact]) -> Iterator[tuple[dict, Artifact]]:
    from emamba.training.qat import IntegerNetwork

    yield {}, artifact
    yield STATE, quantized(STATE)
    narrow = replace(quantized(STATE | WEIGHTS), weights=_trained(artifact.name).weights)
    yield STATE | WEIGHTS, IntegerNetwork(narrow).current()


def _trained(name: str) -> Artifact:
    """The model trained on with INT4 weights and the shipped state."""
    start, made = FOLDER / "start", FOLDER / "int4"
    if not (made / "manifest.json").is_file():
        changes = [word for key, value in WEIGHTS.items() for word in ("--set", f"{key}={value}")]
        for words in (["quantize", f"models/{name}", "--out", str(start), *changes],
                      ["finetune", str(start), "--run", str(FOLDER / "run"), "--out", str(made)]):
            if cli.main(words):
                raise ToolFailed(f"emamba {words[0]} failed")
    return load(made)


def table(rows: list[dict], scan: Callable[[str], bool]) -> list[str]:
    """`scan`: whether a block of that name is a scan."""
    lines = ["## Narrower numbers, ASAP7", "",
             f"MARS at {rows[0]['cycles_per_token']} cycles a token with other settings of the quantizer. A calibrated state may",
             "saturate, by inputs beyond those of calibration; the shipped one cannot. INT4 weights were trained on by",
             "`emamba finetune`, 10 epochs with the shipped state, which was narrowed after them. RMSE is the integer model's on",
             "the official test part. The last two columns are of the scans alone.", "",
             "| settings | bits of h_wide, h | RMSE, cm | NAND2 | MHz | nJ a frame | frames compared | NAND2 | nJ a frame |",
             "| --- " * 9 + "|"]
    for row in rows:
        blocks, joules = row["area"]["blocks"], row["energy_j"]["blocks"]
        scans, settings = [*filter(scan, blocks)], ", ".join(f"`{key}={value}`" for key, value in row["settings"].items())
        lines.append(f"| {settings or 'as shipped'} | {row['state'][0]}, {row['state'][1]} | {row['rmse']:.3f} "
                     f"| {row['area']['total']['nand2']:,} | {row['timing']['typical']['mhz']:,.0f} "
                     f"| {row['energy_j']['total'] * 1e9:,.1f} | {row['sequences']} "
                     f"| {sum(blocks[name]['nand2'] for name in scans):,} | {sum(joules[name] for name in scans) * 1e9:.2f} |")
    return lines
