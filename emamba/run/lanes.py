"""Which operators have a C of vectors beside the plain one (`lanes.c`), and what it reads. The integers are the same."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from ..base.formats import Rounding
from ..ops import Activation, Conv1d, Linear, Operator, RangeNorm, Scan
from ..ops.certificate import certify

Array = np.ndarray

SOURCES = Path(__file__).with_name("vectors.c"), Path(__file__).with_suffix(".c")
LANES = 8
LOW, OFFSET = 8, 128
"""Bits of h_wide that are multiplied by C apart from the others, so that both sums have 32 bits."""
OPEN = 16
"""Sums that four more inputs are tried to fit into."""
BEYOND = 8 * LANES
"""Elements that may be read or written after the last one of an array."""
STATES = 8
"""The number of states is a multiple of it."""


def in_lanes(op: Operator, loop) -> tuple[str, dict] | None:
    """As `Operator.c`, of vectors; None where there is only the plain C."""
    types = loop.types
    if types["VALUE"] == "int64":
        return None
    if isinstance(op, Activation):
        return _activation(op, loop)
    if isinstance(op, RangeNorm):
        return _range_norm(op, loop)
    if isinstance(op, Linear | Conv1d):
        return _weighted(op, loop)
    if type(op) is Scan and types["STATE"] == "int32" and types["VALUE"] == "int16" and _fits(op):
        return _scan(op, loop)
    return None


def _range_norm(op: RangeNorm, loop) -> tuple[str, dict] | None:
    if loop.types["VALUE"] != "int16" or op.shift < 0 or op.rounding is Rounding.HALF_EVEN:
        return None
    return "range_norm_lanes", op.c(loop)[1]


def _activation(op: Activation, loop) -> tuple[str, dict] | None:
    if not loop.tables or loop.types["VALUE"] != "int16" or op.i.bits > 8 or op.o.min < -128 or op.o.max > 127:
        return None
    table = np.zeros(256, np.int8)
    table[np.arange(op.i.min, op.i.max + 1) & 255] = op.table
    return "activation_lanes", {"table": loop.pointer(table, "int8")}


def _weighted(op: Linear | Conv1d, loop) -> tuple[str, dict] | None:
    relu = isinstance(op, Linear) and op.relu
    o = loop.format(op, op.shift, relu=relu)
    bias, largest = op.bias + o.half, int(np.abs(op.weight).max(initial=0))
    if (op.dyadic or op.shift < 0 or op.rounding is Rounding.HALF_EVEN or max(op.i.magnitude, largest + 1) > 1 << 15
            or int(np.abs(bias).max()) >= 1 << 31):
        return None
    fields = {"bias": loop.pointer(_padded(bias), "int32"), "o": o}
    if isinstance(op, Conv1d):
        return "conv1d_lanes", fields | _conv(op, loop)
    rows, offset, limit = loop.bytes
    taken = bias - offset * op.weight.sum(1)
    if (rows and loop.types["VALUE"] == "int16" and op.i.min >= -128 and op.i.max < 128 and largest < 128
            and int(np.abs(taken).max()) < 1 << 31):
        weight, table = in_sums(op.weight, limit)
        return "linear_bytes", fields | {
            "input": op.weight.shape[1], "weight": loop.pointer(weight, "int8"), "table": loop.pointer(table, "int32"),
            "bias": loop.pointer(_padded(taken), "int32"),
            "scratch": loop.reserve((op.weight.shape[1] * rows + BEYOND,), "int8")}
    return "linear_lanes", fields | _linear(op, loop)


def in_sums(weight: Array, limit: int) -> tuple[Array, list[int]]:
    """Steps of LANES outputs and four inputs, in sums: the positive weights that a lane of 16 bits adds in a sum are at most
    `limit` together, and so are the negative ones. Four inputs that alone exceed it take two steps, of half the weights each.

    Parameters
        weight: [outputs, inputs]
        limit: 0 for none

    Returns
        weights [steps, LANES, 4], and the table of `linear_bytes`
    """
    out, read = weight.shape
    blocks = np.zeros((rounded_up(out, LANES), rounded_up(read, 4)), np.int64)
    blocks[:out, :read] = weight
    steps: list[Array] = []
    table: list[int] = []
    for block in blocks.reshape(-1, LANES, blocks.shape[1] // 4, 4)[::-1].swapaxes(1, 2):
        parts = [(k, part) for k, four in enumerate(block) for part in (
            [four // 2, four - four // 2] if limit and _lane_sums(four).max() > limit else [four])]
        sums: list[tuple[Array, list]] = []  # what each lane adds, and the parts
        for k, part in sorted(parts, key=lambda entry: -_lane_sums(entry[1]).max()) if limit else parts:
            added = _lane_sums(part)
            room = next((held for held, _ in sums[-OPEN:] if not limit or (held + added).max() <= limit), None)
            if room is None:
                sums.append((room := np.zeros_like(added), []))
            room += added
            next(found for held, found in sums if held is room).append((k, part))
        table.append(len(sums))
        for _, found in sums:
            table += [len(found), *(4 * k for k, _ in found)]
            steps += [part for _, part in found]
    return np.array(steps), table


def _lane_sums(four: Array) -> Array:
    """Of the positive and of the negative weights of each pair of inputs."""
    pairs = four.reshape(LANES, 2, 2)
    return np.stack([np.maximum(pairs, 0).sum(2), np.maximum(-pairs, 0).sum(2)])


def _linear(op: Linear, loop) -> dict:
    out, read = op.weight.shape
    blocks = np.zeros((rounded_up(out, LANES), rounded_up(read, 2)), np.int64)
    blocks[:out, :read] = op.weight
    weight = blocks.reshape(-1, LANES, blocks.shape[1] // 2, 2)[::-1].swapaxes(1, 2)
    scratch = {} if loop.types["VALUE"] == "int16" else {"scratch": loop.reserve((loop.tokens * read + LANES,), "int16")}
    return {"input": read, "weight": loop.pointer(weight, "int16"), **scratch}


def _conv(op: Conv1d, loop) -> dict:
    taps = op.weight.shape[1]
    ages = np.pad(op.weight[:, ::-1], ((0, 0), (0, taps % 2))).T
    weight = _padded(ages).reshape(rounded_up(taps, 2) // 2, 2, -1).swapaxes(1, 2)
    return {"taps": taps, "weight": loop.pointer(weight, "int16"), "block": rounded_up(op.width, LANES),
            **loop.keep(((taps - 1) * op.width + LANES,), "VALUE")}


def _fits(op: Scan) -> bool:
    """Whether Ā is a byte, every factor of a product has 16 bits, and y's sum has 32 in two parts."""
    high = op.d_state * op.C.magnitude * ((op.h_wide.magnitude >> LOW) + 1) + (op.y_bound >> LOW)
    table = op.decay_table
    return (table is not None and table.min() >= 0 and table.max() < 256 and op.d_state % STATES == 0
            and not op.delta_b and op.rounding is not Rounding.HALF_EVEN and LOW <= op.y_shift <= 30
            and op.h_wide.bits <= 16 + LOW and op.C.magnitude < 1 << 15 and high < 1 << 31)


def macros(operators: Iterable[Operator]) -> dict[str, int]:
    """What `scan_lanes` is compiled for: all scans of a model."""
    scans = [op for op in operators if type(op) is Scan and _fits(op)]
    return {"NARROW": int(all(op.dt.magnitude * op.u.magnitude << max(0, -op.term_shift) < 1 << 15 and op.B.magnitude < 1 << 15
                              for op in scans)),
            "CHECKED": int(not all(certify(op).holds for op in scans)),
            "SHIFTED": int(any(op.term_shift > 0 for op in scans))}


def _scan(op: Scan, loop) -> tuple[str, dict]:
    width = rounded_up(op.width, LANES)
    loop.check_table("Ā", op.A.size << op.dt.bits)
    codes = np.arange(op.dt.min, op.dt.max + 1)
    table = np.zeros((width, len(codes), op.d_state), np.int64)
    table[:op.width] = op.decays(codes[:, None].repeat(op.width, 1)).swapaxes(0, 1)
    start = np.zeros((width, op.d_state), np.int64)
    start[:op.width] = op.start(1)[0]
    blocks = start.reshape(-1, LANES, op.d_state).swapaxes(1, 2)
    direct = _padded(op.D << op.d_shift)
    return "scan_lanes", {
        "least": op.dt.min, "table": loop.pointer(table, "uint8"), "block": len(codes) * op.d_state,
        "direct": loop.pointer(direct >> LOW, "int32"), "bias": loop.pointer(direct & (1 << LOW) - 1, "int32"),
        "scratch": loop.reserve((width,), "int32"), **loop.keep(blocks.shape, "STATE"),
        "start": loop.pointer(blocks, "STATE"), "o": loop.format(op, op.y_shift),
        "term": loop.format(op, op.term_shift, op.h_wide), "h": loop.format(op, op.a_bar.frac, op.h),
        "h_wide": loop.format(op, 0, op.h_wide)}


def _padded(x: Array) -> Array:
    """With zeros up to a multiple of LANES in the last axis."""
    return np.pad(x, [(0, 0)] * (x.ndim - 1) + [(0, -x.shape[-1] % LANES)])


def rounded_up(x: int, step: int) -> int:
    return -(-x // step) * step
