"""Generated recipes beside a CNN and a GRU: `python -m benchmarks.rivals FOLDER [DATA …]` writes docs/data.json and its table.

FOLDER holds the data sets that DATA names, each as `emamba prepare` wrote it with its recipe.toml. Every network has about the
recipe's parameters and is trained by the recipe's own loop: optimizer, steps, augmentation, dropout, mean of weights, choice of
the epoch. Trainings stay in build/rivals; an interrupted one goes on.
"""

import argparse
import hashlib
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from emamba import datasets
from emamba.base.door import guarded
from emamba.config import ModelConfig, QuantizeConfig, Recipe, load_toml
from emamba.datasets.baseline import Baseline
from emamba.datasets.metrics import BETTER
from emamba.io.files import rows_text, write_file
from emamba.training.loop import train
from emamba.training.network import Network
from flow.artifacts import measure, quantized

from .sections import DOCS, figures, replace_tables

DATA = {"digits": "spoken digits, a new speaker", "watch": "a watch's motion, five activities", "oil": "oil temperature",
        "oilchange": "change of the oil temperature"}
SEEDS = 3
KERNEL = 5
WIDTHS = range(1, 256)
RUNS = Path("build/rivals")


class Rival(Network):
    """What the loop trains: a network of torch that reads standardized sequences [b, L, features]."""

    def __init__(self, config: ModelConfig):
        nn.Module.__init__(self)
        self.config, self.noise_bits, self.dropout = config, None, 0.0

    @property
    def decayed(self) -> set[str]:
        return {name for name, value in self.named_parameters() if value.ndim > 1}


class Cnn(Rival):
    """A convolution and two residual blocks of two, each with batch normalization; the head reads the mean and the last token."""

    def __init__(self, config: ModelConfig, width: int):
        super().__init__(config)
        self.convolutions = nn.ModuleList(nn.Conv1d(config.features if k == 0 else width, width, KERNEL, padding="same")
                                          for k in range(5))
        self.norms = nn.ModuleList(nn.BatchNorm1d(width) for _ in self.convolutions)
        self.head = nn.Linear(2 * width, config.outputs)

    def forward(self, tokens: Tensor, trace: dict | None = None, window: int = 1) -> Tensor:
        first, *pairs = [nn.Sequential(*layers) for layers in zip(self.convolutions, self.norms, strict=True)]
        x = F.relu(first(tokens.transpose(1, 2)))
        for one, other in (pairs[:2], pairs[2:]):
            x = F.relu(x + F.dropout(other(F.relu(one(x))), self.dropout, self.training))
        return self.head(torch.cat([x.mean(-1), x[..., -1]], -1))


class Gru(Rival):
    """Two layers of GRU; the head reads the mean and the last token."""

    def __init__(self, config: ModelConfig, width: int):
        super().__init__(config)
        self.layers = nn.GRU(config.features, width, 2, batch_first=True)
        self.head = nn.Linear(2 * width, config.outputs)

    def forward(self, tokens: Tensor, trace: dict | None = None, window: int = 1) -> Tensor:
        self.layers.dropout = self.dropout
        x = self.layers(tokens)[0]
        return self.head(torch.cat([x.mean(1), x[:, -1]], -1))


def size(model: nn.Module) -> int:
    return sum(value.numel() for value in model.parameters())


def like(rival: Callable[[ModelConfig, int], Rival], config: ModelConfig) -> Rival:
    """The rival whose number of parameters is nearest to that of the Mamba of `config`."""
    wanted = size(Network(config))
    return rival(config, min(WIDTHS, key=lambda width: abs(size(rival(config, width)) - wanted)))


NETWORKS: dict[str, Callable[[ModelConfig], Network]] = {"recipe": Network, "cnn": partial(like, Cnn), "gru": partial(like, Gru)}


def measured(name: str, folder: Path) -> list[dict]:
    """A row for each network and seed: figures on validation and test part, the recipe's also as integers."""
    recipe, data = load_toml(Recipe, folder / name / "recipe.toml"), datasets.load(name, None, folder)
    metric, trivial, rows = BETTER[recipe.model.task][0], Baseline.read(data.baseline), []
    for network, make in NETWORKS.items():
        for seed in range(SEEDS):
            own = recipe.model_copy(update={"train": recipe.train.model_copy(update={"seed": seed})})
            run = RUNS / f"{name}_{network}_{seed}"
            record = train(own, run, data=data, progress=False, threads=1, network=make)
            row = {"network": network, "seed": seed, "parameters": record["parameters"], "epoch": record["epoch"],
                   **{part: record["figures"][part][metric] for part in ("validate", "test")}}
            if network == "recipe":
                row["integer"] = measure(*quantized(name, run, QuantizeConfig(), folder))["int"][metric]
            rows.append(row)
            print(name, row, file=sys.stderr, flush=True)
    return [{"metric": metric, "trivial": trivial and trivial.value(), "epochs": recipe.train.epochs}, *rows]


def digest(name: str, folder: Path) -> str:
    """Of a data set's arrays."""
    data, found = datasets.load(name, None, folder), hashlib.sha256()
    for part in ("train", "validate", "test"):
        found.update(getattr(data, f"x_{part}").tobytes() + getattr(data, f"y_{part}").tobytes())
    return found.hexdigest()[:16]


def table(found: dict) -> list[str]:
    lines = ["| data | measure | trivial | generated recipe | as integers | CNN | GRU | parameters |",
             "| --- " * 8 + "|"]
    for name, title in DATA.items():
        about, *rows = found[name]
        share = about["metric"] == "accuracy"

        def cell(network: str, part: str, rows=rows, share=share) -> str:
            values = np.array([row[part] for row in rows if row["network"] == network]) * (100 if share else 1)
            return f"{values.mean():.{1 if share else 2}f} ± {values.std(ddof=1):.{1 if share else 2}f}"

        cells = [f"{cell(network, 'validate')} / {cell(network, 'test')}" for network in NETWORKS]
        cells.insert(1, cell("recipe", "integer"))
        sizes = [next(f"{row['parameters']:,}" for row in rows if row["network"] == network) for network in NETWORKS]
        trivial = f"{about['trivial'] * 100:.1f}" if share else f"{about['trivial']:.2f}"
        lines.append(f"| {title} | {'accuracy, %' if share else 'RMSE, K'} | {trivial} | {' | '.join(cells)} "
                     f"| {' / '.join(sizes)} |")
    return lines


def main(words: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.rivals", description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("data", nargs="*", help=f"some of {', '.join(DATA)}; the others keep their figures")
    options = parser.parse_args(words)
    kept = figures("data")
    for name in options.data or DATA:
        kept.setdefault("digests", {})[name], kept[name] = digest(name, options.folder), measured(name, options.folder)
    names = [name for name in DATA if name in kept]
    found = {"seeds": SEEDS, "digests": {name: kept["digests"][name] for name in names}} | {name: kept[name] for name in names}
    write_file(DOCS / "data.json", lambda target: target.write_text(rows_text(found), encoding="utf-8"))
    if len(names) == len(DATA):
        replace_tables("data", [table(found)])


if __name__ == "__main__":
    sys.exit(guarded("benchmarks.rivals", lambda: main(sys.argv[1:])))
