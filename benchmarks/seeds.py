"""Section of the evaluation: recipes trained from several seeds. Trainings stay in build/seeds; an interrupted one goes on."""

from pathlib import Path

import numpy as np

from emamba.config import QuantizeConfig, Recipe, load_toml
from emamba.datasets.metrics import BETTER
from emamba.training.loop import train
from flow.artifacts import measure, quantized

RECIPES = dict.fromkeys(("japanese_vowels", "japanese_vowels_mamba2", "baselines/japanese_vowels_vit",
                         "baselines/japanese_vowels_cnn", "baselines/japanese_vowels_cnn_wide"), 5) | {"baselines/mars_mamba": 3}
"""By recipe, how many seeds, from 0 on."""
FOLDER = Path("build/seeds")


def seeds() -> list[dict]:
    """The test part's figures of every seed, quantized by default."""
    rows = []
    for name, count in RECIPES.items():
        recipe = load_toml(Recipe, Path("models/recipes") / f"{name}.toml")
        found: dict[str, list[float]] = {"float": [], "int": []}
        for seed in range(count):
            folder = FOLDER / f"{name}_{seed}"
            if not (folder / "checkpoint.json").is_file():
                own = recipe.train.model_copy(update={"seed": seed})
                train(recipe.model_copy(update={"train": own}), folder, progress=False, threads=1)
            for backend, figures in measure(*quantized(name, folder, QuantizeConfig(), None)).items():
                found[backend].append(figures[BETTER[recipe.model.task][0]])
        rows.append({"recipe": name, "figure": BETTER[recipe.model.task][0], **found})
    return rows


def table_seeds(rows: list[dict]) -> list[str]:
    def number(row: dict, value: float) -> str:
        return f"{value:.2%}" if row["figure"] == "accuracy" else f"{value:.2f} cm"

    def cell(row: dict, backend: str) -> str:
        return f"{number(row, np.mean(row[backend]))} ± {number(row, np.std(row[backend], ddof=1))}"

    return ["## Seeds", "",
            "Accuracy or RMSE on the test part: mean and standard deviation over seeds of one recipe, each trained and quantized",
            "anew. The shipped weights are of one seed. `mars_mamba` is the shape of `mars`, with a quarter of its epochs.",
            "",
            "| recipe | seeds | float | integer | integer, seed by seed |", "| --- | --- | --- | --- | --- |",
            *(f"| {row['recipe']} | {len(row['int'])} | {cell(row, 'float')} | {cell(row, 'int')} "
              f"| {', '.join(number(row, value) for value in row['int'])} |" for row in rows)]
