"""MARS' chip with fewer bits in its state: a section of `python -m benchmarks.asic`."""

from collections.abc import Callable

from emamba.artifact import Artifact
from emamba.ops import Scan

SETTINGS = {}, {"state_bits": 16, "state_scale": "calibrated"}
"""Of the quantizer, where they differ from the shipped model's."""


def narrower(artifact: Artifact, point: Callable[[Artifact], dict]) -> list[dict]:
    """What `point` gives of the same weights with each of SETTINGS, with the bits of the state and the figures on the test
    part."""
    from .evaluation import Bench

    bench, rows = Bench(artifact.name), []
    for settings in SETTINGS:
        made = bench.quantized(**artifact.record["quantize"] | settings) if settings else artifact
        scan = next(op for op in made.operators.values() if isinstance(op, Scan))
        rows.append(point(made) | {"settings": settings, "state": [scan.h_wide.bits, scan.h.bits], **bench.figures(made)})
    return rows


def table(rows: list[dict], scan: Callable[[str], bool]) -> list[str]:
    """`scan`: whether a block of that name is a scan."""
    lines = ["## Narrower numbers, ASAP7", "",
             f"MARS at {rows[0]['cycles_per_token']} cycles a token, the same weights with other settings of the quantizer. A",
             "calibrated state may saturate, by inputs beyond those of calibration; the shipped one cannot. RMSE is the",
             "integer model's on the official test part. The last two columns are of the scans alone.", "",
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
