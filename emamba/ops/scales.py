"""Scales of one tensor, and the integers of one product with weights: what the quantizer chooses for a node alone.

Whatever the values are (zeros, rows a millionth of others, a bias beside weights of nothing), weights and bias are rounded at the
scale that the multiplier and the shift really give. docs/numerics.md lists the rules.
"""

import numpy as np

from ..base.errors import DesignLimit, SettingError
from ..base.formats import IntFormat
from .base import BIAS, rounded

Array = np.ndarray

DYADIC_BITS = 12
FINEST = 60
"""Fraction bits of the finest scale that is chosen, and of the coarsest, negative."""
SLACK = 16
"""Fraction bits beyond those of an exact sum that its rounded form may have, or a term beside the sum's; finer ones carry nothing
(our choice)."""


def best_frac(x: Array, bits: int, signed: bool = True, tiny: bool = False, axis: int = -1) -> int:
    """Fraction bits of the power-of-two scale with the least squared error on x, whose channels are its axis `axis`; rounding and
    clipping both count. Values below every scale are refused, or where they may be `tiny` become 0."""
    top = float(np.abs(x).max()) if x.size else 0.0
    if top == 0.0:
        return bits - 1
    widest = bits - int(signed) - int(np.ceil(np.log2(top)))
    if tiny and widest > FINEST:
        return FINEST
    if not -FINEST <= widest <= FINEST:
        channel = np.unravel_index(np.abs(x).argmax(), x.shape)[axis]
        raise DesignLimit(f"channel {channel}: a value of {top:g} needs a scale of 2^{-widest}, out of range "
                          f"2^−{FINEST}..2^{FINEST}: rescale the data or the weights")
    best, least = widest, np.inf
    for frac in range(widest - 1, widest + 5):
        o = IntFormat(bits, signed, frac)
        error = float(((np.clip(np.floor(x * 2.0**frac + 0.5), o.min, o.max) * o.step - x) ** 2).sum())
        if error < least:
            best, least = frac, error
    return best


def codes_of(x: Array, o: IntFormat) -> Array:
    """Real values as integers of format `o`."""
    return rounded(x * 2.0**o.frac, o.min, o.max)


def power_of_two(weight: Array, bias: Array, bits: int, i: IntFormat, o: IntFormat, silent: bool) -> dict:
    """One scale for all of `weight` [out, in] (paper), fine enough for the bias where the products are `silent`, coarse enough
    for a bias of 32 bits beside weights of nothing."""
    frac = best_frac(weight, bits, tiny=True, axis=0)
    if silent:
        frac = min(max(frac, o.frac - i.frac), FINEST)
    if bias.any():
        frac = min(frac, int(np.floor(np.log2(BIAS.max / np.abs(bias).max()))) - i.frac)
    return in_format(weight, bias, IntFormat(bits, True, frac), i, o)


def in_format(weight: Array, bias: Array, w: IntFormat, i: IntFormat, o: IntFormat) -> dict:
    """All of `weight` in the format w."""
    return {"weight": np.clip(codes_of(weight, w), -w.max, w.max), "bias": _fixed(bias, 2.0 ** -(i.frac + w.frac)),
            "multiplier": np.ones(len(weight), np.int64), "shift": i.frac + w.frac - o.frac, "w": w}


def whole_steps(weight: Array, bias: Array, bits: int, i: IntFormat, o: IntFormat, steps: Array) -> dict:
    """The integers of a `weight` [out, in] that is whole `steps` [out]. Equal powers of two stay a shift, others become a
    multiplier for each channel, rounded to DYADIC_BITS of the largest."""
    exact = weight / steps[:, None]
    integers = np.floor(exact + 0.5)
    w, most = IntFormat(bits, True, 0), int(np.abs(integers).max())
    if most > w.max:
        raise SettingError(f"weight_steps: its integers reach {most}, above {w.max} of weight_bits ({bits}): raise weight_bits")
    if (off := np.abs(exact - integers).max(1)).max() > 1e-2:
        raise SettingError(f"weight_steps: channel {int(off.argmax())} is no whole number of steps: give the scales that its "
                           "integers were made with, of the weight with its norm folded in")
    fracs = -np.log2(steps)
    if (fracs == np.round(fracs[0])).all() and abs(fracs[0]) <= FINEST:
        return in_format(weight, bias, IntFormat(bits, True, int(fracs[0])), i, o)
    ratio = steps * (i.step / o.step)
    shift = min(DYADIC_BITS - 1 - int(np.floor(np.log2(ratio.max()))), FINEST)
    multiplier = np.clip(np.floor(ratio * 2.0**shift + 0.5), 1, (1 << DYADIC_BITS) - 1)
    return {"weight": integers.astype(np.int64), "bias": _fixed(bias, multiplier * 2.0**-shift * o.step),
            "multiplier": multiplier.astype(np.int64), "shift": shift, "w": w}


def dyadic(weight: Array, bias: Array, bits: int, i: IntFormat, o: IntFormat, silent: bool) -> dict:
    """A scale for each channel: an integer multiplier, below 2^DYADIC_BITS, and one shift. A channel beside much larger ones has
    the multiplier 1 and fewer steps for its weights; a bias that needs it raises the multiplier."""
    w = IntFormat(bits, True, 0)
    steps = np.abs(weight).max(1) / w.max * (i.step / o.step)  # of the output, a step of the weights and the input
    offset = np.abs(bias) / o.step
    largest, shift = (1 << DYADIC_BITS) - 1, DYADIC_BITS
    if steps.any():
        exact = DYADIC_BITS - 1 - int(np.floor(np.log2(steps.max())))
        shift = min(max(exact, DYADIC_BITS) if silent else exact, FINEST)
    if offset.any():
        shift = min(shift, int(np.floor(np.log2(BIAS.max * largest / offset.max()))))
    ratio = steps * 2.0**shift
    least = np.maximum(ratio * (w.max / (w.max + 0.5)), offset * 2.0**shift / BIAS.max)  # no weight and no bias is clipped
    multiplier = np.clip(np.ceil(np.maximum(ratio - 0.5, least)), 1, largest)
    step = multiplier * 2.0**-shift * o.step
    integers = rounded(weight * (i.step / step)[:, None], -w.max, w.max)
    return {"weight": integers, "bias": _fixed(bias, step), "multiplier": multiplier.astype(np.int64), "shift": shift, "w": w}


SCALES = {"power_of_two": power_of_two, "dyadic": dyadic}


def _fixed(bias: Array, step: Array | float) -> Array:
    return rounded(bias / step, BIAS.min, BIAS.max)


def rates_of(A: Array, a: IntFormat) -> Array:
    """A rounded, at most −1: a state that never decays is no longer the model's."""
    return rounded(A * 2.0**a.frac, a.min, -1)


def decay_frac(A: Array, bits: int, dt: Array) -> int:
    """Fraction bits of A with the least squared error of exp(δ·A) over the calibrated δ; clipping a fast decay is free."""
    widest = bits - 1 - int(np.ceil(np.log2(np.clip(np.abs(A).max(), 2.0**-FINEST, 2.0**FINEST))))
    dt = dt.reshape(-1, len(A))
    dt = dt[:: max(1, len(dt) // 256), :, None]
    exact = np.exp(dt * A)  # an A that is not finite is met by δ > 0 only, as its δ·A of 0 was no number

    def error(frac: int) -> float:
        a = IntFormat(bits, True, frac)
        return float(((np.exp(dt * rates_of(A, a) * a.step) - exact) ** 2).sum())

    return min((min(frac, FINEST) for frac in range(widest, widest + 8)), key=error)
