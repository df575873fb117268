"""Cycles against multipliers, from the schedule: instant. The section `rtl` measures that the hardware keeps to it."""

from pathlib import Path

from emamba.artifact import Artifact
from emamba.io.files import write_file
from flow.report.charts import Plot, sheet
from rtl.plan.schedule import Schedule

PLOT = "cycles.svg"
SWEEP = (1, 2, 4, 8, 16, 20, 32, 58, 64, 128, 256, 800, 1280)
PEERS = {
    "the authors' 2024 RTL": (600, 1450, "about 600", "about 1,450", "about 0.3", "inferred from their Verilog"),
    "code_eMamba (dt_rank 3, MLP head)": (816, 1931, "816", "1,931", "0.12", "simulated and synthesized"),
    "sway (Bluespec)": (78, 18592, "78 DSP", "18,592", "–", "its repository"),
}
"""Multipliers and cycles a frame, for the plot; then as text, with the utilization and how they are known."""


def measure(artifact: Artifact) -> list[dict]:
    keys = ("cycles_per_token", "cycles_per_frame", "latency_cycles", "multipliers", "multiplies_per_frame", "utilization")
    rows = []
    for cycles in SWEEP:
        report = Schedule(artifact, cycles).report()
        rows.append({"requested": cycles} | {key: report[key] for key in keys})
    return rows


def table(rows: list[dict]) -> list[str]:
    lines = ["## Cycles against multipliers: MARS, the paper's shape", "",
             f"![cycles a frame against multipliers]({PLOT})", "",
             "Scheduled; the measured ones below are equal. Multipliers and multiplications as the default realization has",
             "them: one multiplier a product with a weight, SiLU as a table, exp as segments.", "",
             "| T asked | T | cycles a frame | latency | multipliers | multipliers × cycles | utilization |",
             "| --- | --- | --- | --- | --- | --- | --- |"]
    lines += [f"| {row['requested']} | {row['cycles_per_token']} | {row['cycles_per_frame']:,} | {row['latency_cycles']:,} "
              f"| {row['multipliers']:,} | {row['multipliers'] * row['cycles_per_frame']:,} | {row['utilization']:.3f} |"
              for row in rows]
    lines += ["", "Others, for the same task:", "", "| design | cycles a frame | multipliers | utilization | source |",
              "| --- | --- | --- | --- | --- |"]
    lines += [f"| {name} | {cycles} | {multipliers} | {share} | {source} |"
              for name, (_, _, multipliers, cycles, share, source) in PEERS.items()]
    return lines


def plot(rows: list[dict], folder: Path) -> None:
    """Both axes logarithmic; the limit is that every multiplier works in every cycle."""
    work, multipliers = rows[0]["multiplies_per_frame"], [row["multipliers"] for row in rows]
    ends = min(multipliers) / 1.5, max(multipliers) * 1.5
    others = [peer[:2] for peer in PEERS.values()]
    cycles = [row["cycles_per_frame"] for row in rows] + [cycles for _, cycles in others]
    drawn = Plot("MARS, the paper's shape", "multipliers", "cycles a frame", ends, (min(cycles) / 1.5, max(cycles) * 1.5),
                 log_x=True, log_y=True, size=(640, 420))
    drawn.line([(end, work / end) for end in ends], "c", f"limit: {work:,} multiplications a frame")
    drawn.line([(row["multipliers"], row["cycles_per_frame"]) for row in rows], "a", "this design, T = 1 to 1,280", dots=True)
    drawn.dots(others, "b", "others")
    for name, (x, y, *_) in PEERS.items():
        drawn.words(x, y, name)
    for row in rows:
        if row["requested"] in (1, 8, 20, 64, 128, 800):
            drawn.words(row["multipliers"], row["cycles_per_frame"], f"T = {row['requested']}")
    write_file(folder / PLOT, lambda path: path.write_text(sheet([[drawn]]), encoding="utf-8"))
