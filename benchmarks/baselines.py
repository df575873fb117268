"""Section of the evaluation: a Mamba beside an attention network and convolutional ones, all graphs of this project, on MARS."""

from pathlib import Path

from emamba.artifact import load
from rtl.kit.datapath import Products
from rtl.plan.cost import estimate
from rtl.plan.planner import Request, plan

MODELS = Path("models/baselines")
NAMES = {"mars_mamba": "Mamba, the shape of `mars`", "mars_vit": "attention, as many parameters and multiplies",
         "mars_cnn": "convolutions over patches, as many parameters",
         "mars_standardized": "Mamba, the intensity standardized by subject and part"}
MULTIPLIERS = 836
"""At most, of every design: those of `mars` at 20 cycles a token."""


def baselines() -> list[dict]:
    """Figures of the shipped weights, and the fastest hardware of MULTIPLIERS; LUT, DSP and NAND2 by the cost model."""
    rows = []
    for name, kind in NAMES.items():
        artifact = load(MODELS / name)
        schedule = plan(artifact, Request(multipliers=MULTIPLIERS, realization={"products": Products.PAIRS})).schedule
        fpga, chip = estimate(schedule, "xcup"), estimate(schedule, "gates")
        rows.append({"model": name, "kind": kind, "parameters": sum(value.size for value in artifact.weights.values()),
                     **{backend: artifact.record["figures"][backend] for backend in ("float", "int")},
                     "multiplies": schedule.multiplies_per_frame, "multipliers": schedule.multipliers,
                     "cycles": schedule.cycles_per_frame, "latency": schedule.latency, "lut": round(fpga["lut"]),
                     "dsp": round(fpga["dsp"]), "nand2": round(chip["nand2"])})
    return rows


def table_baselines(rows: list[dict]) -> list[str]:
    def figures(found: dict) -> str:
        return f"{found['mae']:.2f} / {found['rmse']:.2f}"

    def times(row: dict) -> str:
        names = {"latency": "latency", "cycles": "cycles", "lut": "LUT", "nand2": "NAND2"}
        return ", ".join(f"{row[key] / rows[0][key]:.2f} times the {name}" for key, name in names.items())

    return ["## Mamba, attention, convolutions", "",
            "MARS, official split, a frame at a time; one recipe for all, 30 epochs, one seed (`models/recipes/baselines`),",
            "quantized by default; MAE / RMSE in cm. `mars`, of the same shape as `mars_mamba`, has 120 epochs. Hardware: the",
            f"fastest design of at most {MULTIPLIERS} multipliers; LUT and DSP for UltraScale+ and NAND2 by the cost model.", "",
            "| model | kind | parameters | multiplies a frame | float | integer | multipliers | cycles a frame | latency | LUT "
            "| DSP | NAND2 |", "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
            *(f"| {row['model']} | {row['kind']} | {row['parameters']:,} | {row['multiplies']:,} | {figures(row['float'])} "
              f"| {figures(row['int'])} | {row['multipliers']} | {row['cycles']:,} | {row['latency']:,} | {row['lut']:,} "
              f"| {row['dsp']:,} | {row['nand2']:,} |" for row in rows), "",
            f"Beside `mars_mamba`, attention has {times(rows[1])};", f"convolutions have {times(rows[2])}.",
            "The paper puts its Mamba at 4.95 to 5.62 times lower latency, 2.22 to 9.95 times the throughput, 4.77 times less",
            "area and 1.63 to 19.9 times fewer parameters than CNN and ViT designs of its choice. At as many parameters and",
            "multipliers only a lower latency is left of that, and attention errs less on single frames. Power was not",
            "measured. What Mamba has beside is its state: [radar pose over time](#radar-pose-over-time)."]
