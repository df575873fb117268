"""Sections of the evaluation that put accuracy beside hardware: the authors' shape, Mamba-2 and Mamba-1, folded Linears."""

from pathlib import Path

from emamba import datasets
from emamba.artifact import Artifact, load
from emamba.base.errors import InputError
from emamba.config import QuantizeConfig
from emamba.datasets.metrics import BETTER, data_figures
from emamba.datasets.tokens import executor_tokens
from emamba.quantization.fold import fold
from emamba.quantization.quantize import calibration_tokens, quantize
from emamba.run.executors import make_executor, predict
from rtl.kit.datapath import Products
from rtl.kit.registry import Realization
from rtl.plan.cost import estimate
from rtl.plan.planner import CYCLES_PER_TOKEN
from rtl.plan.schedule import Schedule

MODELS = Path("models")
FOLDED = "mars"
COMPARED = ("mars_paper", "mars", "mars_mamba2", "japanese_vowels", "japanese_vowels_mamba2")
"""The authors' shape and its relatives of the same d_model and d_state; Mamba-1 and Mamba-2 of one data set."""


def hardware(artifact: Artifact) -> dict:
    """What a design of CYCLES_PER_TOKEN takes; its resources are an estimate for UltraScale+."""
    schedule = Schedule(artifact, CYCLES_PER_TOKEN, Realization(Products.PAIRS))
    found = estimate(schedule, "xcup")
    return {"multiplies": schedule.multiplies_per_frame, "multipliers": schedule.multipliers, "cycles": schedule.cycles_per_frame,
            "latency": schedule.latency, "lut": round(found["lut"]), "dsp": round(found["dsp"])}


def forms() -> list[dict]:
    """Shipped artifacts of several forms, and their hardware."""
    rows = []
    for name in COMPARED:
        artifact = load(MODELS / name)
        config = artifact.config
        rows.append({"artifact": name, "form": config.form, "conv": config.conv, "d_model": config.d_model,
                     "d_state": config.d_state, "parameters": sum(value.size for value in artifact.weights.values()),
                     "metric": BETTER[config.task][0], "unit": artifact.data.get("unit", ""),
                     **{backend: artifact.record["figures"][backend] for backend in ("float", "int")}, **hardware(artifact)})
    return rows


def folded() -> list[dict]:
    """`FOLDED` as it is and folded."""
    return [{"model": name, **figures, **hardware(made)} for name, (made, figures) in
            zip(("two Linears for δ", "folded"), with_folded(load(MODELS / FOLDED)), strict=True)]


def with_folded(artifact: Artifact) -> list[tuple[Artifact, dict[str, float]]]:
    """An artifact, and its float weights quantized by default with Linears in a row as one; each with its integer figures on the
    test part."""
    data = datasets.load(artifact.data["name"], artifact.data["split"])
    if not len(data.x_train):
        raise InputError(f"data set {data.name} has no training part to calibrate on: {data.train_remedy}")
    settings, config = QuantizeConfig(), artifact.config
    graph, weights = fold(artifact.graph, artifact.weights)
    made = quantize(artifact.name, config, weights, artifact.codec, calibration_tokens(data.x_train, config, settings), settings,
                    graph=graph)
    test = executor_tokens(data.x_test, config)
    return [(one, data_figures(config.task, predict(one, "int", make_executor(one, "int"), test), data.y_test, data))
            for one in (artifact, made)]


def table_forms(rows: list[dict]) -> list[str]:
    def cell(row: dict, backend: str) -> str:
        value = row[backend][row["metric"]]
        return f"{value:.2%}" if row["metric"] == "accuracy" else f"{value:.3f} {row['unit']}"

    return ["## The authors' shape, Mamba-1, Mamba-2", "",
            f"Trained alike, but `mars_mamba2` in half the epochs; quantized by default. Hardware at {CYCLES_PER_TOKEN} cycles a",
            "token. `mars_paper` has the authors'",
            "shape: a product with a matrix of all channels where `mars` has a convolution. `…_mamba2` have the same d_model and",
            "d_state: one Ā a head, computed once for all its channels and states. LUT and DSP are estimates for",
            "UltraScale+ by the cost model.", "",
            "| artifact | parameters | RMSE or accuracy, float | integer | multiplies | multipliers | cycles | latency | LUT "
            "| DSP |",
            "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
            *(f"| {row['artifact']} | {row['parameters']:,} | {cell(row, 'float')} | {cell(row, 'int')} | {row['multiplies']:,} "
              f"| {row['multipliers']} | {row['cycles']} | {row['latency']} | {row['lut']:,} | {row['dsp']} |" for row in rows)]


def table_folded(rows: list[dict]) -> list[str]:
    return ["## Two Linears in a row as one", "",
            f"MARS, official split; `emamba quantize --fold`. Hardware at {CYCLES_PER_TOKEN} cycles a token, LUT estimated.", "",
            "| model | RMSE, cm | MAE, cm | multiplies | multipliers | latency | LUT |",
            "| --- | --- | --- | --- | --- | --- | --- |",
            *(f"| {row['model']} | {row['rmse']:.3f} | {row['mae']:.3f} | {row['multiplies']:,} | {row['multipliers']} "
              f"| {row['latency']} | {row['lut']:,} |" for row in rows)]
