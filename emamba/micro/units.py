"""For the README of the C: between a user's values and the model's integers, and what the outputs are called."""

import numpy as np

from ..artifact import Artifact

MOST = 64
"""Rows of a table; a longer one stands in accelerator.json alone."""
SENSORS = {"src/model_sound.c": "| `src/model_sound.h`, `src/model_sound.c` | samples of a microphone to tokens, in integers |\n",
           "src/model_radar.c": "| `src/model_radar.h`, `src/model_radar.c` | points of a radar to tokens, in integers |\n"}
"""By a file, the line on it."""


def units(artifact: Artifact) -> str:
    """Formulas and tables, in Markdown."""
    codec, i, o = artifact.codec, artifact.input, artifact.output
    parts = []
    if artifact.config.input != "tokens":
        value = "x" if codec.mean is None else "(x − mean) / deviation"
        parts.append(f"A value x is given as the integer floor({value} · 2^{i.frac} + 0.5), clipped to {i.min} … {i.max}.\n")
        if codec.mean is not None:
            parts.append(_table("input", {"mean": codec.mean, "deviation": codec.std}))
    names = [str(name).replace("|", "\\|") for name in artifact.record.get("classes") or []]
    parts.append(f"An output integer y stands for offset + scale · y · 2^{-o.frac}"
                 + ("; the largest one is the class.\n" if artifact.config.task == "classification" else ".\n"))
    parts.append(_table("output", {"scale": codec.scale, "offset": codec.offset} | ({"class": names} if names else {})))
    return "\n".join(parts)


def _table(what: str, columns: dict) -> str:
    """A row for each channel, or one where all are alike."""
    rows = [[value if isinstance(value, str) else repr(value).removesuffix(".0") for value in row]
            for row in zip(*(values if isinstance(values, list) else np.asarray(values).tolist() for values in columns.values()),
                           strict=False)]
    if len(rows) > 1 and all(row == rows[0] for row in rows):
        rows, names = rows[:1], ["each"]
    else:
        names = [str(k) for k in range(len(rows))]
    if len(rows) > MOST:
        return f"Their {' and '.join(columns)} for each {what} are in `accelerator.json`, under `codec`.\n"
    return "\n".join([f"| {what} | {' | '.join(columns)} |", "| --- |" + " --- |" * len(columns),
                      *(f"| {name} | {' | '.join(row)} |" for name, row in zip(names, rows, strict=True)), ""])
