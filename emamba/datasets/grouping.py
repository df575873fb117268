"""Which recordings belong together, and to which part each group goes."""

import re
from pathlib import Path

import numpy as np

from ..base.errors import InputError, SettingError, brief

PARTS = ("train", "validate", "test")
SHARES = np.array([0.6, 0.2, 0.2])
"""Of the parts: three fifths, one and one."""
PATTERN = "name="
"""Begins a --group that is a pattern on the file's name."""


def group_of(file: Path, pattern: str, option: str = "group") -> str:
    """The group of a file: what the pattern's first parentheses match in its name, or all that the pattern does."""
    try:
        found = re.search(pattern, file.name)
    except re.error as error:
        raise SettingError(f"--{option} {PATTERN}{pattern} is no regular expression ({error}): write one such as "
                           f"{PATTERN}'^([^_]+)_'") from None
    if found is None:
        raise InputError(f"--{option} {PATTERN}{pattern} matches nothing in the name {file.name}: write a pattern that fits "
                         "every file")
    return found[1] if found.re.groups else found[0]


def deal(names: list[str], counts: np.ndarray, where: str) -> dict[str, str]:
    """Groups → parts, each group as a whole, so that the parts get their shares of every class.

    Parameters
        names: of the groups
        counts: windows of each class in each group [groups, classes]
        where: what the groups are of, for a refusal
    """
    if len(names) < len(PARTS):
        raise InputError(f"{where} has {len(names)} group{'s' * (len(names) != 1)} ({brief(', '.join(names))}); {len(PARTS)} at "
                         "least are needed, one for each part: group by something else, or give --group none to cut every "
                         "recording in time")
    counts = counts.astype(np.float64)
    share = counts / np.maximum(counts.sum(0), 1)  # of each class, in each group
    order = np.random.RandomState(0).permutation(len(names))  # RandomState: numpy promises its stream never changes
    order = order[np.argsort(-counts.sum(1)[order], kind="stable")]
    held = np.zeros((len(PARTS), counts.shape[1]))
    found = {}
    for place, k in enumerate(order):
        lacking = [part for part in range(len(PARTS)) if part not in found.values()]
        choices = lacking if len(order) - place <= len(lacking) else range(len(PARTS))
        gain = ((SHARES[:, None] - held - share[k] / 2) / SHARES[:, None] * share[k]).sum(1)
        part = max(choices, key=lambda part: gain[part])
        held[part] += share[k]
        found[names[k]] = part
    return {name: PARTS[part] for name, part in found.items()}
