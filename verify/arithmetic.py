"""Mutants of the integer arithmetic, and its check by exact fractions that must kill them.

`emamba/base/arithmetic.py` is changed in its syntax tree: an operator becomes its neighbour, a constant one more or less, a
comparison its opposite. `check` computes each function again with Python's own integers and fractions, in another way.
"""

import ast
import copy
import signal
import types
from collections import Counter
from fractions import Fraction
from math import floor, isqrt
from pathlib import Path

import numpy as np

from emamba.base import arithmetic
from emamba.base.errors import InputError
from emamba.base.formats import IntFormat, Rounding

SECONDS = 5
SWAPS = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Add,
    ast.FloorDiv: ast.Mult,
    ast.LShift: ast.RShift,
    ast.RShift: ast.LShift,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.Or: ast.And,
    ast.And: ast.Or,
    ast.MatMult: ast.Mult,
    ast.Mod: ast.Mult,
}


_WIDER = "a lower limit takes a wider type, whose sums are exact too"
EQUAL = {
    "constants: LShift becomes RShift, no. 1": _WIDER,
    "constants: LShift becomes RShift, no. 2": _WIDER,
    "constants: 1 becomes 0, no. 1": _WIDER,
    "constants: 1 becomes 0, no. 2": _WIDER,
    "constants: 24 becomes 23, no. 1": _WIDER,
    "constants: 53 becomes 52, no. 1": _WIDER,
    "word: 0 becomes 1, no. 1": "the other terms of the maximum are at least 1",
    "word: 0 becomes -1, no. 1": "the other terms of the maximum are at least 1",
    "leading_zeros: 1 becomes 2, no. 2": "a 0 two places below the leading one also keeps the float below the next power of two",
    "check_range: 0 becomes 1, no. 1": "of nothing, the least is only compared with a format's least, which is 0 or less",
    "check_range: 0 becomes -1, no. 2": "of nothing, the largest is only compared with a format's largest, which is 0 or more",
}
"""Changes that change no value, and why."""


def rounded(value: Fraction, rounding: Rounding) -> int:
    """To an integer, by the definition."""
    if rounding is Rounding.TRUNCATE:
        return floor(value)
    if rounding is Rounding.HALF_UP:
        return floor(value + Fraction(1, 2))
    return round(value)  # Python rounds halves to even


def check(arith) -> None:
    """Asserts every function of the module `arith`."""
    rng = np.random.default_rng(0)
    edges = np.array(
        [*range(-70, 71), 127, 128, -128, -129, 255, 256, 1 << 20, -(1 << 20), (1 << 20) - 1, *rng.integers(-9999, 9999, 40)]
    )
    o, plain = IntFormat(8), edges.tolist()
    for rounding in Rounding:
        for shift in (-3, -1, 0, 1, 2, 3, 7):
            exact = [rounded(Fraction(x) / (1 << shift) if shift >= 0 else Fraction(x) * (1 << -shift), rounding) for x in plain]
            before = edges.copy()
            assert arith.round_shift(edges, shift, rounding).tolist() == exact and (edges == before).all()
            clipped = [max(-128, min(127, value)) for value in exact]
            assert arith.requantize(edges, shift, o, rounding).tolist() == clipped
        scaled = [max(-128, min(127, rounded(Fraction(x * 5, 8), rounding))) for x in plain]
        assert arith.requantize(edges, 3, o, rounding, 5).tolist() == scaled
    assert arith.round_shift(np.array([3, -3]), 1).tolist() == [2, -1] and arith.requantize(np.array([3]), 1, o).tolist() == [2]
    assert arith.saturate(edges, IntFormat(7, False)).tolist() == [max(0, min(127, x)) for x in plain]

    _check_words(arith)
    _check_sums(arith, rng)
    _check_lines(arith)
    _check_tables(arith)
    _check_norms(arith, rng)

    for values, bad in (([-128, 127], None), ([-129], -129), ([5, 128], 128), ([-128, 128], 128), ([-200, 300], -200)):
        try:
            arith.check_range("x", np.array(values, np.int64), o)
            assert bad is None
        except InputError as error:
            assert bad is not None and f" {bad}," in str(error) and "-128..127" in str(error)
    for narrow in (IntFormat(1), IntFormat(1, False)):
        arith.check_range("x", np.array([], np.int64), narrow)


def _check_words(arith) -> None:
    """Every step of a requantization fits the type, and a type of twice the bits is not taken without need."""
    limit = 1 << 31
    for bound in (0, 1, limit - 2, limit - 1, limit, limit // 2 - 1, limit // 2, limit >> 5):
        for shift in (-5, -1, 0, 1, 5, 30):
            for o in (None, IntFormat(8), IntFormat(31), IntFormat(32), IntFormat(40)):
                steps = [bound, bound << max(0, -shift), bound + (1 << shift if shift > 0 else 1), o.magnitude if o else 0]
                assert arith.word(bound, shift, o) == (np.int32 if max(steps) < limit else np.int64), (bound, shift, o)
    assert arith.word(5) == np.int32


def _check_sums(arith, rng) -> None:
    for bound, size in (
        (1 << 20, 99),
        (1 << 24, 9999),
        ((1 << 24) - 1, 2000),
        (1 << 40, 1 << 17),
        (1 << 53, 1 << 22),
        (1 << 60, 1 << 27),
    ):
        x = rng.integers(-size, size, (2, 3, 5))
        weight = rng.integers(-size, size, (4, 5)) if bound > 1 << 24 else rng.integers(-99, 99, (4, 5))
        exact = [
            [[sum(int(a) * int(b) for a, b in zip(token, row, strict=True)) for row in weight] for token in sequence]
            for sequence in x
        ]
        y = arith.matmul(x, weight, bound)
        assert y.tolist() == exact and y.dtype == (np.int32 if bound < 1 << 31 else np.int64)
    one = (1 << 24) + 1  # the first integer that float32 does not hold; likewise 2^53 + 1 of float64
    assert arith.matmul(np.array([[[one]]]), np.array([[1]]), 1 << 24).item() == one
    assert arith.matmul(np.array([[[(1 << 53) + 1]]]), np.array([[1]]), 1 << 53).item() == (1 << 53) + 1
    x, weight = rng.integers(-9, 9, (2, 4, 3)), rng.integers(-9, 9, (3, 6))
    for taps in (1, 3, 6):
        y = arith.causal_conv(x, weight[:, :taps])
        for b, t, c in np.ndindex(*x.shape):
            assert y[b, t, c] == sum(int(x[b, t - k, c]) * int(weight[c, taps - 1 - k]) for k in range(min(taps, t + 1)))


def _check_lines(arith) -> None:
    knots, slopes, offsets = np.array([-5, 0, 9]), np.array([0, 3, -7, 11]), np.array([100, -3, 8, -900])
    x = np.arange(-20, 21)
    for rounding in Rounding:
        y = arith.piecewise_linear(x, knots, slopes, offsets, 3, IntFormat(6), rounding)
        for value, got in zip(x.tolist(), y.tolist(), strict=True):
            k = sum(value >= knot for knot in knots)
            assert got == max(-32, min(31, rounded(Fraction(int(slopes[k]) * value + int(offsets[k]), 8), rounding)))
    assert (
        arith.piecewise_linear(x, knots, slopes, offsets, 3, IntFormat(6))
        == arith.piecewise_linear(x, knots, slopes, offsets, 3, IntFormat(6), Rounding.HALF_UP)
    ).all()


def _check_tables(arith) -> None:
    for width, bits, index_bits, entry_bits in ((20, 12, 8, 12), (1, 8, 8, 12), (5, 8, 3, 9), (17, 6, 5, 12), (64, 12, 8, 16)):
        table, exponent = arith.reciprocal_table(width, bits, index_bits, entry_bits)
        kept = min(index_bits, bits - 1)
        assert len(table) == 1 << kept and exponent == entry_bits - 1 + bits - 1 + (width.bit_length() - 1)
        share = 1 << (bits - 1 - kept)
        for k, entry in enumerate(table.tolist()):
            spans = [((1 << kept) + k) * share, ((1 << kept) + k + 1) * share - 1]
            assert entry == floor(Fraction(1 << exponent) / (width * Fraction(sum(spans), 2)) + Fraction(1, 2))
            assert 0 < entry < 1 << entry_bits
    shapes = ((1, 12, 8, 12), (20, 16, 8, 12), (5, 8, 8, 9), (3, 6, 8, 10), (1, 20, 4, 12), (1, 6, 8, 12))
    for gain, bits, index_bits, entry_bits in shapes:
        table, exponent = arith.rsqrt_table(gain, bits, index_bits, entry_bits)
        kept = min(index_bits, bits) - 1
        share = 1 << (bits - 1 - kept)
        assert len(table) == 2 << kept and table.max() < 1 << entry_bits
        for position, entry in enumerate(table.tolist()):
            odd, k = divmod(position, 1 << kept)
            middle = Fraction(((1 << kept) + k) * share * 2 + share - 1, 2) / (1 << odd)
            exact = Fraction(gain) / middle * 4 ** (exponent + 20)
            root = isqrt(int(exact))
            assert abs(Fraction(root, 1 << 20) - entry) <= Fraction(1, 2) + Fraction(1, 1 << 10)
        largest = Fraction(gain) * 4 ** (exponent + 1) * 2 / Fraction((1 << kept) * share * 2 + share - 1, 2)
        assert largest >= (Fraction(1 << entry_bits) - Fraction(1, 2)) ** 2  # one more would not fit
    zeros = [62 - int(x).bit_length() if x else 0 for x in _spans()]
    assert arith.leading_zeros(np.array(_spans()), 62).tolist() == zeros


def _spans() -> list[int]:
    return [0, *(value for k in range(62) for value in ((1 << k) - 1, 1 << k) if value), (1 << 62) - 1]


def _check_norms(arith, rng) -> None:
    o = IntFormat(8, True, 7)
    for width, bits in ((5, 8), (1, 8), (20, 12), (17, 16), (64, 16)):
        x = rng.integers(-(1 << (bits - 1)), 1 << (bits - 1), (3, 40, width))
        x[0, 0], x[0, 1] = 7, x[0, 1, 0]
        x[0, 2:12] = rng.integers(-3, 3, (10, width))
        x[1, 0, : -(-width // 2)], x[1, 0, -(-width // 2) :] = -(1 << (bits - 1)), (1 << (bits - 1)) - 1
        x[1, 1, 0], x[1, 1, 1:] = (1 << (bits - 1)) - 1, -(1 << (bits - 1))
        table, exponent = arithmetic.reciprocal_table(width, bits, 8, 12)
        for rounding in Rounding:
            y = arith.range_norm(x, bits, table, exponent - o.frac, o, rounding)
            for token, got in zip(x.reshape(-1, width).tolist(), y.reshape(-1, width).tolist(), strict=True):
                span = max(token) - min(token)
                zeros = bits - span.bit_length() if span else 0
                entry = int(table[((span << zeros) >> (bits - 1 - (len(table).bit_length() - 1))) % len(table)])
                assert got == [
                    max(
                        -128,
                        min(
                            127,
                            rounded(Fraction(((width * v - sum(token)) << zeros) * entry, 1 << (exponent - o.frac)), rounding),
                        ),
                    )
                    for v in token
                ]
        assert (
            arith.range_norm(x, bits, table, exponent - o.frac, o)
            == arith.range_norm(x, bits, table, exponent - o.frac, o, Rounding.HALF_UP)
        ).all()
    for centered in (True, False):
        for width, bits, epsilon in ((5, 8, 3), (6, 8, 0), (1, 6, 2)):
            x = rng.integers(-(1 << (bits - 1)), 1 << (bits - 1), (2, 60, width))
            x[0, :3] = 0
            x[0, 3:20] = rng.integers(-2, 3, (17, width))
            most = (width if centered else 1) * (epsilon + width * 4 ** (bits - 1))
            spread = most.bit_length() + most.bit_length() % 2
            table, exponent = arithmetic.rsqrt_table(1 if centered else width, spread, 8, 12)
            o = IntFormat(8, True, 4)
            options = {"epsilon": epsilon, "centered": centered}
            for rounding in Rounding:
                y = arith.layer_norm(x, spread, table, exponent - o.frac, o, rounding, **options)
                for token, got in zip(x.reshape(-1, width).tolist(), y.reshape(-1, width).tolist(), strict=True):
                    q, total = sum(v * v for v in token) + epsilon, sum(token)
                    v = width * q - total * total if centered else q
                    n = [width * value - total for value in token] if centered else token
                    zeros = spread - v.bit_length() if v else 0
                    half = len(table) // 2
                    below = ((v << zeros) * half * 2 >> spread) % half
                    entry = int(table[half * (zeros % 2) + below])
                    assert got == [
                        max(-128, min(127, rounded(Fraction((k << zeros // 2) * entry, 1 << (exponent - o.frac)), rounding)))
                        for k in n
                    ]
            if epsilon:
                again = arith.layer_norm(x, spread, table, exponent - o.frac, o, **options)
                assert (again == arith.layer_norm(x, spread, table, exponent - o.frac, o, Rounding.HALF_UP, **options)).all()
    x = rng.integers(-9, 9, (1, 4, 3))
    table, exponent = arithmetic.rsqrt_table(1, 12, 8, 12)
    assert (
        arith.layer_norm(x, 12, table, exponent, o) == arith.layer_norm(x, 12, table, exponent, o, epsilon=0, centered=True)
    ).all()


def mutants() -> list[tuple[str, ast.Module]]:
    """Every single change of the module: its place and what it is, and the changed tree."""
    tree = ast.parse(Path(arithmetic.__file__).read_text(encoding="utf-8"))
    found: list[tuple[str, ast.Module]] = []
    seen: Counter[str] = Counter()
    for function in [node for node in tree.body if isinstance(node, ast.FunctionDef | ast.Assign)]:
        name = getattr(function, "name", "constants")
        body = function.body if isinstance(function, ast.FunctionDef) else [function]
        skipped = body[0].value if isinstance(body[0], ast.Expr) else None
        for part in body:
            for node in ast.walk(part):
                if node is skipped:
                    continue
                for change, undo, text in _changes(node):
                    change()
                    seen[f"{name}: {text}"] += 1
                    found.append((f"{name}: {text}, no. {seen[f'{name}: {text}']}", copy.deepcopy(tree)))
                    undo()
    return found


def _changes(node):
    def swap(holder, key, old, new):
        def put(value):
            if isinstance(key, int):
                holder[key] = value
            else:
                setattr(holder, key, value)

        return lambda: put(new), lambda: put(old)

    if isinstance(node, ast.BinOp | ast.AugAssign | ast.BoolOp) and type(node.op) in SWAPS:
        new = SWAPS[type(node.op)]()
        yield *swap(node, "op", node.op, new), f"{type(node.op).__name__} becomes {type(new).__name__}"
    if isinstance(node, ast.Compare) and type(node.ops[0]) in SWAPS:
        new = SWAPS[type(node.ops[0])]()
        yield *swap(node.ops, 0, node.ops[0], new), f"{type(node.ops[0]).__name__} becomes {type(new).__name__}"
    if isinstance(node, ast.Constant) and type(node.value) is int:
        for step in (1, -1):
            yield *swap(node, "value", node.value, node.value + step), f"{node.value} becomes {node.value + step}"
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.Invert):
        new = ast.UAdd() if isinstance(node.op, ast.USub) else ast.USub()
        yield *swap(node, "op", node.op, new), f"{type(node.op).__name__} becomes {type(new).__name__}"
    if isinstance(node, ast.IfExp):
        new = ast.UnaryOp(ast.Not(), node.test)
        ast.copy_location(new, node.test)
        yield *swap(node, "test", node.test, new), "the condition is inverted"


def killed(tree: ast.Module) -> bool:
    module = types.ModuleType("emamba.arithmetic_mutant")
    module.__package__ = "emamba"
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    try:
        with np.errstate(all="ignore"):
            exec(compile(ast.fix_missing_locations(tree), "mutant", "exec"), module.__dict__)
            check(module)
        return False
    except KeyboardInterrupt:
        raise
    except BaseException:  # an assertion, any error, or an endless loop
        return True
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)


class Endless(BaseException):
    pass


def score() -> dict:
    """Mutants, killed ones, those that change no value with the reason, and what is left."""
    check(arithmetic)

    def stop(*_):
        raise Endless

    before = signal.signal(signal.SIGPROF, stop)
    try:
        everything = mutants()
        alive = [text for text, tree in everything if not killed(tree)]
    finally:
        signal.signal(signal.SIGPROF, before)
    equal = {text: EQUAL[text] for text in alive if text in EQUAL}
    return {
        "mutants": len(everything),
        "killed": len(everything) - len(alive),
        "equal": equal,
        "alive": [text for text in alive if text not in equal],
    }
