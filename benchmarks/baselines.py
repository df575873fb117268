"""Section of the evaluation: a Mamba beside attention networks and convolutional ones, all graphs of this project."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from emamba.artifact import load
from rtl.kit.datapath import Products
from rtl.plan.cost import estimate
from rtl.plan.planner import Request, plan

MODELS = Path("models/baselines")
MULTIPLIERS = 836
"""At most, of every design: those of `mars` at 20 cycles a token."""


@dataclass(frozen=True)
class DataSet:
    """One data set: what its table says, and its models by folder, the Mamba first: the network, and what tells it apart."""

    title: str
    words: tuple[str, ...]
    models: dict[str, tuple[str, str]]
    figures: Callable[[dict], str]


DATA_SETS = {
    "mars": DataSet("MARS", (
        "MARS, official split, a frame at a time; one recipe for all, 30 epochs, one seed (`models/recipes/baselines`),",
        "quantized by default; MAE / RMSE in cm. `mars`, of the same shape as `mars_mamba`, has 120 epochs."), {
            "baselines/mars_mamba": ("Mamba", "the shape of `mars`"),
            "baselines/mars_vit": ("attention", "as many parameters and multiplies"),
            "baselines/mars_cnn": ("convolutions", "over patches, as many parameters"),
            "baselines/mars_cnn_wide": ("convolutions", "over patches, as many multiplies"),
            "baselines/mars_standardized": ("Mamba", "the intensity standardized by subject and part")},
        lambda found: f"{found['mae']:.2f} / {found['rmse']:.2f}"),
    "japanese_vowels": DataSet("JapaneseVowels", (
        "JapaneseVowels; one recipe for all, 100 epochs; accuracy of the shipped weights, of one seed; five seeds of each are",
        "[below](#seeds)."), {
            "japanese_vowels": ("Mamba", "as shipped"),
            "japanese_vowels_mamba2": ("Mamba-2", "fewer parameters and multiplies"),
            "baselines/japanese_vowels_vit": ("attention", "as many parameters and multiplies"),
            "baselines/japanese_vowels_cnn": ("convolutions", "as many parameters"),
            "baselines/japanese_vowels_cnn_wide": ("convolutions", "as many multiplies")},
        lambda found: f"{found['accuracy']:.2%}"),
}


def baselines() -> list[dict]:
    """Figures of the shipped weights, and the fastest hardware of MULTIPLIERS; LUT, DSP and NAND2 by the cost model."""
    rows = []
    for data, name, (network, apart) in ((data, *pair) for data, found in DATA_SETS.items() for pair in found.models.items()):
        artifact = load(MODELS.parent / name)
        schedule = plan(artifact, Request(multipliers=MULTIPLIERS, realization={"products": Products.PAIRS})).schedule
        fpga, chip = estimate(schedule, "xcup"), estimate(schedule, "gates")
        rows.append({"data": data, "model": Path(name).name, "network": network, "apart": apart,
                     "parameters": sum(value.size for value in artifact.weights.values()),
                     **{backend: artifact.record["figures"][backend] for backend in ("float", "int")},
                     "multiplies": schedule.multiplies_per_frame, "multipliers": schedule.multipliers,
                     "cycles": schedule.cycles_per_frame, "latency": schedule.latency, "lut": round(fpga["lut"]),
                     "dsp": round(fpga["dsp"]), "nand2": round(chip["nand2"])})
    return rows


def table_baselines(rows: list[dict]) -> list[str]:
    lines = ["## Mamba, attention, convolutions", "",
             f"Hardware: the fastest design of at most {MULTIPLIERS} multipliers; LUT and DSP for UltraScale+ and NAND2 by the",
             "cost model. Last, latency, cycles a frame, LUT and NAND2 as multiples of the first row's.", ""]
    groups = {data: [row for row in rows if row["data"] == data] for data in DATA_SETS}
    for data, found in groups.items():
        lines += [*DATA_SETS[data].words, "", *_table(found, DATA_SETS[data]), ""]

    def span(network: str) -> str:
        names = {"latency": "latency", "cycles": "cycles", "nand2": "NAND2"}
        found = [(row, rows[0]) for rows in groups.values() for row in rows if row["network"] == network]
        ratios = {key: [row[key] / first[key] for row, first in found] for key in names}
        return ", ".join(f"{min(ratios[key]):.1f} to {max(ratios[key]):.1f} times the {name}" for key, name in names.items())

    return [*lines,
            "The paper puts its Mamba at 4.95 to 5.62 times lower latency, 2.22 to 9.95 times the throughput, 4.77 times less",
            "area and 1.63 to 19.9 times fewer parameters than CNN and ViT designs of its choice. Here, at as many parameters or",
            f"multiplies and as many multipliers, attention takes {span('attention')},",
            f"and errs less; convolutions take {span('convolutions')},",
            "and err about as much. Power was not measured. What Mamba has beside is its state:",
            "[radar pose over time](#radar-pose-over-time)."]


def _table(rows: list[dict], found: DataSet) -> list[str]:
    """The table of a data set, and each model's hardware against the Mamba's."""
    first = rows[0]

    def times(row: dict) -> str:
        return " / ".join(f"{row[key] / first[key]:.2f}" for key in ("latency", "cycles", "lut", "nand2"))

    return ["| model | network | parameters | multiplies a frame | float | integer | multipliers | cycles a frame | latency "
            "| LUT | DSP | NAND2 | against the first |",
            "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
            *(f"| {row['model']} | {row['network']}, {row['apart']} | {row['parameters']:,} | {row['multiplies']:,} "
              f"| {found.figures(row['float'])} | {found.figures(row['int'])} | {row['multipliers']} | {row['cycles']:,} "
              f"| {row['latency']:,} | {row['lut']:,} | {row['dsp']:,} | {row['nand2']:,} | {times(row)} |" for row in rows)]
