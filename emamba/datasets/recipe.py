"""A recipe for a data set of one's own: sized from its arrays, with the regularization of the recipes that ship."""

from collections.abc import Mapping
from typing import Any

from . import Dataset
from .baseline import task_of

FEW = 1000
"""Sequences apart below which a model of any size overfits."""
STEPS = 3000
"""Steps of the optimizer that a training takes, about; of few sequences half as many."""


def recipe_text(data: Dataset, name: str, source: Mapping[str, Any]) -> str:
    """TOML with a comment on every choice (all rules are our choice).

    Windows that overlap hold the same rows, so sizes follow from the sequences apart: those without a row in common. Where the
    class is that of a window's end, the last token answers, and no window is shifted.

    Parameters:
        data: the data set
        name: its name, quoted
        source: its `source.json`, which tells sounds, and how windows were cut and labelled
    """
    n, length, features = data.x_train.shape
    classes, sound = task_of(data) == "classification", "front_end" in source
    outputs = 1 + max(int(y.max()) for y in (data.y_train, data.y_validate, data.y_test)) if classes else data.y_train.shape[-1]
    apart = round(n * min(1.0, source.get("step", length) / length))
    few, end = apart < FEW, "step" in source and source.get("label", "last") == "last"
    batch = 32 if n < 4000 else 64 if n < 16_000 else 128
    epochs = min(200, max(20, round(STEPS / (1 + few) * batch / n)))
    width = 16 if apart < 4000 else 24 if apart < 16_000 else 32
    shift, cut = (max(1, length // 16), length // 8) if classes and length >= 16 else (0, 0)
    pool, why = ("last", "the window's end decides") if end or not classes else ("mean", "the whole sequence decides")
    lines = [
        "[data]", f"name = {name}", "",
        "[model]", 'form = "emamba"', 'input = "sequence"', f"features = {features}", f"length = {length}",
        *_said(f"d_model = {width}", f"for {apart} sequences apart; 24 from 4,000 on, 32 from 16,000 on"),
        "dt_rank = 4",
        *_said("d_state = 8", "what a channel remembers; 16 for long sequences"),
        *_said("d_conv = 4", "taps of the convolution before the scan"),
        *_said("blocks = 2", "1 is half the hardware, 3 and more are for tens of thousands of sequences"),
        *(_said('norm = "range"', "no divider and no square in hardware") if classes
          else _said('norm = "none"', "a norm forgets the level, which a value follows; range where the loss jumps")),
        *_said(f'pool = "{pool}"', why),
        f'task = "{"classification" if classes else "regression"}"', f"outputs = {outputs}", "",
        "[train]",
        *_said(f"epochs = {epochs}", f"about {round(epochs * n / batch)} steps"),
        f"batch = {batch}",
        *_said(f"peak_lr = {'6e-3' if classes else '3e-3'}",
               "a third of it where the loss jumps" + ("" if classes else "; 6e-3 with a norm")),
        *_said(f"weight_decay = {0.1 if few else 0.05 if classes else 0.01}", "more where training and validation part"),
        *_said("noise_bits = 8", "trains with the rounding that INT8 will bring"),
        *_said("average = 0.99", "a running mean of the weights: steadier, and rounds better"),
    ]
    if few:
        lines += [*_said("dropout = 0.2", f"for fewer than {FEW:,} sequences apart, or where it overfits"),
                  *_said("mix = 0.2", "each sequence and its target are mixed with up to a fifth of another: for few sequences")]
    elif classes:
        lines += _said("dropout = 0.1", "0.2 where it overfits")
    if classes:
        lines += [
            *_said("label_smoothing = 0.05", "keeps the outputs small, so that they need few bits"),
            *_said(f"jitter = {0.1 if few else 0.05}", "noise on the standardized inputs"),
            *_said(f"scale = {0.05 if sound else 0.2 if few else 0.1}", "each sequence louder or quieter by up to so much"),
            *(_said(f"shift = {shift}", "tokens by which a sequence moves") if shift and not end else []),
            *(_said(f"cutout = {cut}", "tokens that are cut out of each sequence") if cut > 1 else []),
            *(_said("mask = 0.1", "share of the bands that are left out") if sound else []),
        ]
    else:
        lines += _said(f"jitter = {0.05 if few else 0.01}", "noise on the standardized inputs; more where it overfits")
    return "\n".join(lines) + "\n"


def _said(line: str, why: str) -> list[str]:
    return [f"{line:<24}# {why}"]
