"""A recipe for a data set of one's own: sized from its arrays, with the regularization of the recipes that ship."""

from . import Dataset
from .baseline import task_of

FEW = 1000
"""Sequences below which a model of any size overfits."""
STEPS = 3000
"""Steps of the optimizer that a training takes, about."""


def recipe_text(data: Dataset, name: str, sound: bool = False) -> str:
    """TOML with a comment on every choice. `name` is quoted."""
    n, length, features = data.x_train.shape
    classes = task_of(data) == "classification"
    outputs = 1 + max(int(y.max()) for y in (data.y_train, data.y_validate, data.y_test)) if classes else data.y_train.shape[-1]
    batch = 32 if n < 4000 else 64 if n < 16_000 else 128
    epochs = min(200, max(20, round(STEPS * batch / n)))
    width = 16 if n < 4000 else 24 if n < 16_000 else 32
    shift, cut = (max(1, length // 16), length // 8) if classes and length >= 16 else (0, 0)
    lines = [
        "[data]", f"name = {name}", "",
        "[model]", 'form = "emamba"', 'input = "sequence"', f"features = {features}", f"length = {length}",
        *_said(f"d_model = {width}", f"for {n} sequences; 24 from 4,000 on, 32 from 16,000 on"),
        "dt_rank = 4",
        *_said("d_state = 8", "what a channel remembers; 16 for long sequences"),
        *_said("d_conv = 4", "taps of the convolution before the scan"),
        *_said("blocks = 2", "1 is half the hardware, 3 and more are for tens of thousands of sequences"),
        *_said('norm = "range"', "no divider and no square in hardware"),
        *_said('pool = "mean"' if classes else 'pool = "last"',
               "the whole sequence decides" if classes else "the last token answers, with all that the state keeps"),
        f'task = "{"classification" if classes else "regression"}"', f"outputs = {outputs}", "",
        "[train]",
        *_said(f"epochs = {epochs}", f"about {round(epochs * n / batch)} steps"),
        f"batch = {batch}",
        *_said("peak_lr = 6e-3", "a third of it where the loss jumps"),
        *_said(f"weight_decay = {0.05 if classes else 0.01}", "more where training and validation part"),
        *_said("noise_bits = 8", "trains with the rounding that INT8 will bring"),
        *_said("average = 0.99", "a running mean of the weights: steadier, and rounds better"),
    ]
    if classes:
        lines += [
            *_said(f"dropout = {0.2 if n < FEW else 0.1}", f"0.2 below {FEW:,} sequences, or where it overfits"),
            *(_said("mix = 0.2", "each sequence and its class are mixed with up to a fifth of another: for few sequences")
              if n < FEW else []),
            *_said("label_smoothing = 0.05", "keeps the outputs small, so that they need few bits"),
            *_said("jitter = 0.05", "noise on the standardized inputs"),
            *_said(f"scale = {0.1 if not sound else 0.05}", "each sequence louder or quieter by up to so much"),
            *(_said(f"shift = {shift}", "tokens by which a sequence moves") if shift else []),
            *(_said(f"cutout = {cut}", "tokens that are cut out of each sequence") if cut > 1 else []),
            *(_said("mask = 0.1", "share of the bands that are left out") if sound else []),
        ]
    else:
        lines += _said("jitter = 0.01", "noise on the standardized inputs; more where it overfits")
    return "\n".join(lines) + "\n"


def _said(line: str, why: str) -> list[str]:
    return [f"{line:<24}# {why}"]
