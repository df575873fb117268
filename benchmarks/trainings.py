"""Recipes of `models/recipes` trained for the evaluation. Trainings stay in build/trainings; an interrupted one goes on."""

from pathlib import Path

from emamba.config import Recipe, load_toml
from emamba.graph import import_models
from emamba.quantization.quantize import read_checkpoint
from emamba.training.loop import train

RECIPES = Path("models/recipes")
FIRST = {"mars_grid": "mars_grid_first", "fashion_mnist_second": "fashion_mnist_first", "fashion_mnist": "fashion_mnist_second",
         "cifar10": "cifar10_first"}
"""By recipe, the one whose weights it starts from."""
FOLDER = Path("build/trainings")


def recipe_of(name: str) -> Recipe:
    return load_toml(Recipe, RECIPES / f"{name}.toml")


def trained(name: str, seed: int = 0) -> Path:
    """The folder of a recipe's training from a seed."""
    folder = FOLDER / f"{name}_{seed}"
    if (own := RECIPES / f"{name}.py").is_file():
        import_models(own)
    if not (folder / "checkpoint.json").is_file():
        recipe = recipe_of(name)
        seeded = recipe.model_copy(update={"train": recipe.train.model_copy(update={"seed": seed})})
        start = read_checkpoint(trained(FIRST[name], seed)).weights if name in FIRST else None
        train(seeded, folder, progress=False, threads=1, start=start)
    return folder
