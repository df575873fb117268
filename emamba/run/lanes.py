"""Which operators have a C of vectors beside the plain one (`lanes.c`), and what it reads. The integers are the same."""

from pathlib import Path

import numpy as np

from ..base.formats import Rounding
from ..ops import Conv1d, Linear, Operator, Scan
from ..ops.certificate import certify

Array = np.ndarray

SOURCE = Path(__file__).with_suffix(".c")
LANES = 8
LOW = 8
"""Bits of h_wide that are multiplied by C apart from the others, so that both sums have 32 bits."""
STATES = 8
"""The number of states is a multiple of it."""


def in_lanes(op: Operator, loop) -> tuple[str, dict] | None:
    """As `Operator.c`, of vectors; None where there is only the plain C."""
    types = loop.types
    if types["VALUE"] == "int64":
        return None
    if (isinstance(op, Linear | Conv1d) and not op.dyadic
            and max(op.i.magnitude, int(np.abs(op.weight).max(initial=0)) + 1) <= 1 << 15):
        return _linear(op, loop) if isinstance(op, Linear) else _conv(op, loop)
    if type(op) is Scan and types["STATE"] == "int32" and types["VALUE"] == "int16" and _fits(op):
        return _scan(op, loop)
    return None


def _linear(op: Linear, loop) -> tuple[str, dict]:
    out, read = op.weight.shape
    blocks = np.zeros((rounded_up(out, LANES), rounded_up(read, 2)), np.int64)
    blocks[:out, :read] = op.weight
    weight = blocks.reshape(-1, LANES, blocks.shape[1] // 2, 2).swapaxes(1, 2)
    scratch = {} if loop.types["VALUE"] == "int16" else {"scratch": loop.reserve((loop.tokens * read + LANES,), "int16")}
    return "linear_lanes", {"input": read, "weight": loop.pointer(weight, "int16"), **scratch,
                            "bias": loop.pointer(_padded(op.bias), "int32"), "o": loop.format(op, op.shift, relu=op.relu)}


def _conv(op: Conv1d, loop) -> tuple[str, dict]:
    taps = op.weight.shape[1]
    ages = np.pad(op.weight[:, ::-1], ((0, 0), (0, taps % 2))).T
    weight = _padded(ages).reshape(rounded_up(taps, 2) // 2, 2, -1).swapaxes(1, 2)
    return "conv1d_lanes", {"taps": taps, "weight": loop.pointer(weight, "int16"), "block": rounded_up(op.width, LANES),
                            "bias": loop.pointer(_padded(op.bias), "int32"), "o": loop.format(op, op.shift),
                            **loop.keep(((taps - 1) * op.width + LANES,), "VALUE")}


def _fits(op: Scan) -> bool:
    """Whether Ā is a byte, every factor of a product has 16 bits, and y's sum has 32 in two parts."""
    high = op.d_state * op.C.magnitude * ((op.h_wide.magnitude >> LOW) + 1) + (op.y_bound >> LOW)
    table = op.decay_table
    return (table is not None and table.min() >= 0 and table.max() < 256 and op.d_state % STATES == 0
            and not op.delta_b and op.rounding is not Rounding.HALF_EVEN and LOW <= op.y_shift <= 30
            and op.h_wide.bits <= 16 + LOW and op.C.magnitude < 1 << 15 and high < 1 << 31)


def _scan(op: Scan, loop) -> tuple[str, dict]:
    width = rounded_up(op.width, LANES)
    loop.check_table("Ā", op.A.size << op.dt.bits)
    codes = np.arange(op.dt.min, op.dt.max + 1)
    table = np.zeros((len(codes), width, op.d_state), np.int64)
    table[:, :op.width] = op.decays(codes[:, None].repeat(op.width, 1))
    start = np.zeros((width, op.d_state), np.int64)
    start[:op.width] = op.start(1)[0]
    blocks = start.reshape(-1, LANES, op.d_state).swapaxes(1, 2)
    direct = _padded(op.D << op.d_shift)
    narrow = op.dt.magnitude * op.u.magnitude << max(0, -op.term_shift) < 1 << 15 and op.B.magnitude < 1 << 15
    return f"scan_lanes{'_narrow' * narrow}{'_certified' * certify(op).holds}", {
        "least": op.dt.min, "table": loop.pointer(table, "uint8"), "block": width,
        "direct": loop.pointer(direct >> LOW, "int32"), "bias": loop.pointer(direct & (1 << LOW) - 1, "int32"),
        **loop.keep(blocks.shape, "STATE"),
        "start": loop.pointer(blocks, "STATE"), "o": loop.format(op, op.y_shift),
        "term": loop.format(op, op.term_shift, op.h_wide), "h": loop.format(op, op.a_bar.frac, op.h),
        "h_wide": loop.format(op, 0, op.h_wide)}


def _padded(x: Array) -> Array:
    """With zeros up to a multiple of LANES in the last axis."""
    return np.pad(x, [(0, 0)] * (x.ndim - 1) + [(0, -x.shape[-1] % LANES)])


def rounded_up(x: int, step: int) -> int:
    return -(-x // step) * step
