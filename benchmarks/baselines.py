"""Section of the evaluation: a Mamba beside attention networks and convolutional ones, all graphs of this project."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from emamba.artifact import Artifact, load, save
from emamba.config import QuantizeConfig
from flow.artifacts import measure, quantized
from rtl.kit.datapath import Products
from rtl.plan.cost import estimate
from rtl.plan.planner import Request, plan
from rtl.plan.schedule import Schedule

from . import energy
from .trainings import FOLDER, trained

MODELS = Path("models")
MULTIPLIERS = 836
"""At most, of every design: those of `mars` at 20 cycles a token."""
CHIP = 300
"""At most, of every chip: about those of `mars` at the cycles a token of the authors' longest stage."""


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
            "baselines/mars_published": ("the CNN of MARS", "as published; trained anew, not shipped"),
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
    "fashion_mnist": DataSet("Fashion-MNIST", (
        "Fashion-MNIST; one stem of three convolutions, one recipe for all, 30 epochs, one seed. The first row's recipe is",
        "`fashion_mnist_first`; `fashion_mnist` is that model, trained on."), {
            "baselines/fashion_mnist_mamba": ("Mamba", "the shape of `fashion_mnist`"),
            "baselines/fashion_mnist_vit": ("attention", "as many parameters, 5 % more multiplies"),
            "baselines/fashion_mnist_cnn": ("convolutions", "as many parameters, 10 % fewer multiplies")},
        lambda found: f"{found['accuracy']:.2%}"),
}


CLAIMS = (("fewer parameters", "parameters", 1.63, 19.9), ("lower latency", "latency", 4.95, 5.62),
          ("more throughput", "cycles", 2.22, 9.95), ("less area", "nand2", 4.77, 4.77), ("less power", "power", 9.84, 9.84),
          ("less energy", "energy", 48.6, 48.6))
"""Of the paper's Mamba against CNN and ViT designs of its choice: what, our figure for it, the least and the greatest ratio."""


def artifact_of(name: str) -> Artifact:
    """A model that ships, or one trained anew by its recipe."""
    if (MODELS / name).is_dir():
        return load(MODELS / name)
    folder = Path(f"{FOLDER / name}_int8")
    if not (folder / "manifest.json").is_file():
        artifact, data = quantized(Path(name).name, trained(name), QuantizeConfig(), None)
        measure(artifact, data)
        save(artifact, folder)
    return load(folder)


def fastest(artifact: Artifact, multipliers: int = MULTIPLIERS, products: Products = Products.CASCADES) -> Schedule:
    """The fastest design of so many multipliers."""
    return plan(artifact, Request(multipliers=multipliers, realization={"products": products})).schedule


def baselines() -> list[dict]:
    """Figures of the models, and the fastest hardware of MULTIPLIERS; LUT, DSP and NAND2 by the cost model."""
    rows, used = [], energy.fitted()
    for data, name, (network, apart) in ((data, *pair) for data, found in DATA_SETS.items() for pair in found.models.items()):
        artifact = artifact_of(name)
        schedule = fastest(artifact)
        fpga, gates = estimate(schedule, "xcup"), estimate(fastest(artifact, products=Products.PAIRS), "gates")
        chip = fastest(artifact, CHIP, Products.MERGED)
        rows.append({"data": data, "model": artifact.name, "network": network, "apart": apart,
                     "parameters": sum(value.size for value in artifact.weights.values()),
                     **{backend: artifact.record["figures"][backend] for backend in ("float", "int")},
                     "multiplies": schedule.multiplies_per_frame, "multipliers": schedule.multipliers,
                     "cycles": schedule.cycles_per_frame, "latency": schedule.latency, "lut": round(fpga["lut"]),
                     "dsp": round(fpga["dsp"]), "nand2": round(gates["nand2"]),
                     "chip": {"multipliers": chip.multipliers, "cycles": chip.cycles_per_frame,
                              "joules": float(f"{used.of(chip):.4g}"), "error": float(f"{used.error:.2g}"),
                              "others": {other: [float(f"{joules:.4g}") for joules in pair]
                                         for other, pair in used.others.items()}}})
    return rows


def table_baselines(rows: list[dict]) -> list[str]:
    rows = [row | {"energy": row["chip"]["joules"], "power": row["chip"]["joules"] / row["chip"]["cycles"]} for row in rows]
    groups = {data: [row for row in rows if row["data"] == data] for data in DATA_SETS}
    lines = ["## Mamba, attention, convolutions", "",
             f"Hardware: the fastest design of at most {MULTIPLIERS} multipliers; LUT and DSP for UltraScale+, with cascades,",
             "and NAND2, with pairs of products, by the cost model. Last, latency, cycles a frame, LUT, NAND2 and energy as",
             f"multiples of the first row's. Energy is an estimate: of chips of at most {CHIP} multipliers in {energy.PROCESS},",
             "by so much a multiplication and so much a flip-flop and cycle as the [measured chips](asic.md) of MARS take, from",
             f"whose figures it is at most {rows[0]['chip']['error']:.1%} away.",
             *(f"The chip of `{name}`, another shape, takes {measured * 1e9:.1f} nJ; the estimate is {found * 1e9:.1f}."
               for name, (measured, found) in rows[0]["chip"]["others"].items()),
             "No chip of attention or of convolutions was measured; of a small one with convolutions the estimate is too",
             "high.", ""]
    for data, found in groups.items():
        lines += [*DATA_SETS[data].words, "", *_table(found, DATA_SETS[data]), ""]
    return [*lines, *_claims(groups), "", "What Mamba has beside is its state: [radar pose over time](#radar-pose-over-time)."]


def _claims(groups: dict[str, list[dict]]) -> list[str]:
    """The paper's ratios beside those of every model that is no Mamba to its data set's first."""
    networks = [*dict.fromkeys(row["network"] for found in groups.values() for row in found if "Mamba" not in row["network"])]
    lines = ["The paper's ratios of CNN and ViT designs of its choice to its Mamba, and those of the rows above to the first",
             "ones. A ratio holds where all of ours reach the paper's least. Power is at one clock, each design at its rate.", "",
             f"| a Mamba has | the paper | {' | '.join(networks)} | holds here |", "| --- " * (3 + len(networks)) + "|"]

    def ratios(figure: Callable[[dict], float]) -> list[list[float]]:
        return [[figure(row) / figure(found[0]) for found in groups.values() for row in found if row["network"] == network]
                for network in networks]

    for words, key, least, most in CLAIMS:
        found = ratios(lambda row, key=key: row[key])
        every = [ratio for values in found for ratio in values]
        held = sum(ratio >= least for ratio in every)
        verdict = "yes" if held == len(every) else f"beside {held} of {len(every)}" if held else "no"
        lines.append(f"| {words} | {_span([least, most])} | {' | '.join(map(_span, found))} | {verdict} |")
    errors = ratios(lambda row: row["int"].get("rmse") or 1 - row["int"]["accuracy"])
    return [*lines, f"| error of the integers | – | {' | '.join(map(_span, errors))} | – |"]


def _span(values: list[float]) -> str:
    ends = [f"{value:.2f}" if value < 10 else f"{value:.1f}" for value in (min(values), max(values))]
    return " to ".join(dict.fromkeys(ends)) + " times"


def _table(rows: list[dict], found: DataSet) -> list[str]:
    """The table of a data set, and each model's hardware against the Mamba's."""
    first = rows[0]

    def times(row: dict) -> str:
        return " / ".join(f"{row[key] / first[key]:.2f}" for key in ("latency", "cycles", "lut", "nand2", "energy"))

    return ["| model | network | parameters | multiplies a frame | float | integer | multipliers | cycles a frame | latency "
            "| LUT | DSP | NAND2 | nJ a frame, estimated | against the first |", "| --- " * 14 + "|",
            *(f"| {row['model']} | {row['network']}, {row['apart']} | {row['parameters']:,} | {row['multiplies']:,} "
              f"| {found.figures(row['float'])} | {found.figures(row['int'])} | {row['multipliers']} | {row['cycles']:,} "
              f"| {row['latency']:,} | {row['lut']:,} | {row['dsp']:,} | {row['nand2']:,} "
              f"| {row['energy'] * 1e9:,.0f} | {times(row)} |" for row in rows)]
