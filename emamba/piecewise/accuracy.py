"""The exact table, and how far segments are from it and from the true function, over every input code."""

import numpy as np

from ..base.errors import DesignLimit, SettingError
from ..base.formats import IntFormat
from .density import shares
from .functions import Domain, Scalar, name_of, values
from .segments import MAX_BITS, Segments, codes

Array = np.ndarray


def check_format(name: str, side: str, f: IntFormat) -> None:
    if not 2 <= f.bits <= MAX_BITS:
        raise DesignLimit(f"the {side} of {name} must have 2 to {MAX_BITS} bits, not {f.bits}; requantize to a narrower format")


def true_values(function: str | Scalar, i: IntFormat, o: IntFormat) -> Array:
    """The function at every input code in output LSBs, not rounded, not clipped."""
    return values(function, codes(i) * i.step) / o.step


def exact(function: str | Scalar, i: IntFormat, o: IntFormat) -> Array:
    """The correctly rounded (half up, saturated) table; the entry of a code is at code − i.min."""
    check_format(name_of(function), "input", i)
    check_format(name_of(function), "output", o)
    return np.floor(np.clip(true_values(function, i, o), o.min, o.max) + 0.5).astype(np.int64)


def errors(segments: Segments, function: str | Scalar, domain: Domain | None = None,
           density: Array | None = None) -> dict[str, float | int]:
    """Errors over every input code (within `domain`), against the true function clipped to the output's range.

    max_lsb: |y − true| in output LSBs; max_table: |y − exact table| in output LSBs; max_real, mean_real: |y − true| as values;
    code: where max_lsb happens; rms_lsb, rms_real: root of the mean of (y − true)² under `density`, the weight of each input
    code, by default the same for all.
    """
    i, o = segments.i, segments.o
    x = codes(i)
    low, high = domain or (-np.inf, np.inf)
    keep = (x * i.step >= low) & (x * i.step <= high)
    if not keep.any():
        raise SettingError(f"no code of {i} lies in [{low:g}, {high:g}]; widen the domain")
    y = segments(x)
    error = np.abs(y - np.clip(true_values(function, i, o), o.min, o.max))[keep]
    rms = float(np.sqrt((shares(density, i, keep) * error**2).sum()))
    return {
        "max_lsb": float(error.max()),
        "max_table": int(np.abs(y - exact(function, i, o))[keep].max()),
        "max_real": float(error.max() * o.step),
        "mean_real": float(error.mean() * o.step),
        "rms_lsb": rms,
        "rms_real": rms * o.step,
        "code": int(x[keep][error.argmax()]),
    }
