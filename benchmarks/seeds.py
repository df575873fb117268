"""Section of the evaluation: recipes trained from several seeds."""

import numpy as np

from emamba.config import QuantizeConfig
from emamba.datasets.metrics import BETTER
from flow.artifacts import measure, quantized

from .trainings import recipe_of, trained

RECIPES = dict.fromkeys(("japanese_vowels", "japanese_vowels_mamba2", "baselines/japanese_vowels_vit",
                         "baselines/japanese_vowels_cnn", "baselines/japanese_vowels_cnn_wide"), 5) | {
                             "baselines/mars_mamba": 3, "mars_grid": 3}
"""By recipe, how many seeds, from 0 on."""
QUANTIZED = {"mars_grid": QuantizeConfig(a_bits=10, decay_bits=10)}
"""By recipe, how it is quantized where that is not by default."""


def seeds() -> list[dict]:
    """The test part's figures of every seed."""
    rows = []
    for name, count in RECIPES.items():
        figure = BETTER[recipe_of(name).model.task][0]
        found: dict[str, list[float]] = {"float": [], "int": []}
        for seed in range(count):
            made = quantized(name, trained(name, seed), QUANTIZED.get(name, QuantizeConfig()), None)
            for backend, figures in measure(*made).items():
                found[backend].append(figures[figure])
        rows.append({"recipe": name, "figure": figure, **found})
    return rows


def table_seeds(rows: list[dict]) -> list[str]:
    def number(row: dict, value: float) -> str:
        return f"{value:.2%}" if row["figure"] == "accuracy" else f"{value:.2f} cm"

    def cell(row: dict, backend: str) -> str:
        return f"{number(row, np.mean(row[backend]))} ± {number(row, np.std(row[backend], ddof=1))}"

    return ["## Seeds", "",
            "Accuracy or RMSE on the test part: mean and standard deviation over seeds of one recipe, each trained and quantized",
            "anew; `mars_grid` has 10 bits for A and Ā, as it ships. The shipped weights are of one seed. `mars_mamba` is the",
            "shape of `mars`, with a quarter of its epochs.",
            "",
            "| recipe | seeds | float | integer | integer, seed by seed |", "| --- | --- | --- | --- | --- |",
            *(f"| {row['recipe']} | {len(row['int'])} | {cell(row, 'float')} | {cell(row, 'int')} "
              f"| {', '.join(number(row, value) for value in row['int'])} |" for row in rows)]
