"""What `emamba prepare` makes of files: windows or sounds in three parts, and what is known of them."""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from ..base.errors import InputError, printable
from .grouping import PARTS

Array = np.ndarray


@dataclass(frozen=True)
class Prepared:
    """x [n, L, features] float32 and y, values [n, 1] float32 or classes [n] int64, of each part; and what made them."""

    x: dict[str, Array]
    y: dict[str, Array]
    source: dict
    last: dict[str, Array] = field(default_factory=dict)
    """Values: the target's last one that the model reads, where it reads it."""

    @property
    def remarks(self) -> list[str]:
        """Sentences on how the files were read, and what was left out."""
        return self.source["remarks"]

    @property
    def classes(self) -> int:
        """0 for values."""
        return len(self.source.get("classes", ()))


def named(found: Prepared, names: list[str], why: Callable[[int], str]) -> Prepared:
    """With the names of its classes, each of which some sequence that trains must have; `why` tells of one that none has."""
    if names:
        if missing := sorted(set(range(len(names))) - set(found.y["train"].tolist())):
            raise InputError(why(missing[0]))
        found.source["classes"] = names
    return found


def balance(found: Prepared) -> list[str]:
    """Lines on the parts, and on how often each class is in them."""
    lines = []
    if names := found.source.get("classes"):
        counts = {part: np.bincount(found.y[part], minlength=len(names)) for part in PARTS}
        lines.append("class: " + " / ".join(PARTS))
        lines += [f"  {printable(name)}: " + " / ".join(str(counts[part][k]) for part in PARTS)
                  for k, name in enumerate(names[:40])]
        lines += [f"  … and {len(names) - 40} more"] * (len(names) > 40)
    if groups := found.source.get("groups"):
        lines += [f"{part}: {len(groups[part])} group{'s' * (len(groups[part]) != 1)} ({', '.join(groups[part][:6])}"
                  + (", …)" if len(groups[part]) > 6 else ")") for part in PARTS]
    return lines
