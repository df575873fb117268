"""Section of the evaluation: what models of text without a neural network reach on the same texts as `wikitext2`."""

import math
from collections import Counter, defaultdict

import pyppmd

from emamba.datasets import data_directory, wikitext2

ORDER = 5
"""Bytes before the one that is predicted, at most."""
PPM = {"max_order": 6, "mem_size": 64 << 20, "variant": "H"}


def texts() -> list[dict]:
    """Bits per byte of the test text, knowing the training text of the shipped model."""
    train, _, test = wikitext2.plain_texts(data_directory())
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
