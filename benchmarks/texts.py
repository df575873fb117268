"""Sections of the evaluation: models of text without a neural network beside `wikitext2` and `shakespeare`, on the same texts."""

import math
from collections import Counter, defaultdict

import numpy as np
import pyppmd

from emamba import datasets
from emamba.artifact import Artifact, load, of_length
from emamba.datasets import data_directory, shakespeare, wikitext2
from emamba.datasets.metrics import log_likelihood
from emamba.run.executors import make_executor, predict

ORDER = 5
"""Bytes before the one that is predicted, at most."""
PPM = {"max_order": 6, "mem_size": 64 << 20, "variant": "H"}
PUBLISHED = {"model": "a transformer, as published", "parameters": 830_000, "nats": 1.724}


def texts() -> list[dict]:
    """Bits per byte of the test text, knowing the training text of the shipped model."""
    train, _, test = wikitext2.plain_texts(data_directory())
    return without_networks(train, test)


def characters() -> list[dict]:
    """Nats a character of the last tenth of tiny Shakespeare, in the windows of the shipped model; the interval of 95 % is from
    the windows, which are taken as independent."""
    artifact = load("models/shakespeare")
    data = datasets.load(artifact.data["name"], artifact.data["split"])
    carried = of_length(artifact, artifact.graph.length, carried=True)
    rows = [_of_network(title, found, backend, data) for title, found, backend in (
        ("float", artifact, "float"), ("integer", artifact, "int"),
        ("integer, the state carried through the text", carried, "int"))]
    train, _, test = shakespeare.plain_texts(data_directory(), artifact.data["split"].startswith("whole"))
    others = without_networks(train, test)
    return [*rows, *({"model": row["model"], "nats": row["bits_per_byte"] * math.log(2)} for row in others), PUBLISHED]


def _of_network(title: str, artifact: Artifact, backend: str, data: datasets.Dataset) -> dict:
    values = predict(artifact, backend, make_executor(artifact, backend), data.x_test[..., None])
    windows = -log_likelihood(values, data.y_test).mean(1)
    return {"model": f"`{artifact.name}`, {title}", "parameters": sum(value.size for value in artifact.weights.values()),
            "nats": float(windows.mean()), "half": float(1.96 * windows.std(ddof=1) / np.sqrt(len(windows)))}


def without_networks(train: bytes, test: bytes) -> list[dict]:
    both, alone = (len(pyppmd.compress(text, **PPM)) for text in (train + test, train))
    return [{"model": f"n-gram of up to {ORDER} bytes and the next one, Witten–Bell, counted on the training text",
             "bits_per_byte": NGram(train).bits(test) / len(test)},
            {"model": f"PPMd, order {PPM['max_order']}, which goes on learning from the test text",
             "bits_per_byte": 8 * (both - alone) / len(test)}]


class NGram:
    """Bytes by those before them, orders interpolated (Witten and Bell, 1991)."""

    def __init__(self, text: bytes):
        self.counts: list[dict[bytes, Counter]] = [defaultdict(Counter) for _ in range(ORDER + 1)]
        for order, counts in enumerate(self.counts):
            for k in range(order, len(text)):
                counts[text[k - order:k]][text[k]] += 1
        self.totals = [{context: sum(found.values()) for context, found in counts.items()} for counts in self.counts]

    def bits(self, text: bytes) -> float:
        """−log₂ of the probability of a text."""
        return -sum(math.log2(self._share(text, k)) for k in range(len(text)))

    def _share(self, text: bytes, k: int) -> float:
        share = 1 / 256
        for order, (counts, totals) in enumerate(zip(self.counts, self.totals, strict=True)):
            context = text[max(0, k - order):k]
            if len(context) < order or context not in counts:
                break
            found = counts[context]
            share = (found[text[k]] + len(found) * share) / (totals[context] + len(found))
        return share


def table_texts(rows: list[dict]) -> list[str]:
    return ["## Models of text that are no networks", "",
            "WikiText-2, the texts of `wikitext2`: nine tenths of the validation text to learn from, the whole test text to",
            "predict. `wikitext2` itself: the tables above and below.", "",
            "| model | bits per byte |", "| --- | --- |",
            *(f"| {row['model']} | {row['bits_per_byte']:.3f} |" for row in rows)]


def table_characters(rows: list[dict]) -> list[str]:
    real, whole = (row["nats"] for row in rows[:2])
    return ["## Characters of Shakespeare", "",
            "The last tenth of the text, in the windows of `shakespeare`, each from a cleared state where nothing else is said;",
            "what is no network knows the training text too. The interval is of 95 %, from the windows. Integer to float:",
            f"{whole / real:.4f} in nats, {math.exp(whole - real):.4f} in perplexity. Whether what is published has such windows",
            "is not known.", "",
            "| model | parameters | nats a character | bits per byte |", "| --- | --- | --- | --- |", *map(_row, rows)]


def _row(row: dict) -> str:
    count = f"{row['parameters']:,}" if "parameters" in row else "–"
    half = f" ± {row['half']:.3f}" if "half" in row else ""
    return f"| {row['model']} | {count} | {row['nats']:.3f}{half} | {row['nats'] / math.log(2):.3f} |"
