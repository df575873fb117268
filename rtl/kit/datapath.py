"""What the datapaths share: a stalling pipeline, requantization, adder trees, read-only memories, accumulator widths."""

import operator
from collections.abc import Callable, Iterable, Iterator
from enum import StrEnum

import numpy as np

from emamba.base.formats import IntFormat, Rounding, bits_for
from emamba.ops import Weighted

from .block import shape_of
from .hdl import Cat, Const, Module, Mux, Shape, Signal, Value, counted
from .light import Part, later, node, nodes


class Products(StrEnum):
    """How the products with weights become circuits."""

    MULTIPLIERS = "multipliers"
    PAIRS = "pairs"  # two with a shared factor from one wide multiplier, where their formats fit
    CASCADES = "cascades"  # so, and summed in the DSP48E2s of UltraScale+, where the sums fit them
    CONSTANTS = "constants"  # graphs of adders where a token takes one cycle, elsewhere pairs
    LOGIC = "logic"  # adders of shifted copies, where a device has too few multipliers
    MERGED = "merged"  # with no register before the sum of some, which a chip's synthesis makes one carry-save tree of


class Pipeline:
    """Registers between a block's inputs and its output `o` that all move while `o` is empty or taken; without `o`, always.

    `advance` is high in such a cycle, `moves` where data do so. `loads` are memories that stand for constant ones, by name;
    `clips`, where they are counted, gets a flag of every output lane whose value was clipped.
    """

    def __init__(self, m: Module, o=None, loads: dict | None = None, clips: Signal | None = None):
        self.m, self.o, self.advance, self.loads, self.clips, self.results = m, o, Const(1), loads or {}, clips, 0
        if o is not None:
            self.advance = Signal(name="advance")
            m.d.comb += self.advance.eq(~o.valid | o.ready)
            self.timeless(self.advance)
        self.moves = self.advance

    @staticmethod
    def timeless(signal: Signal) -> None:
        """Notes that a signal belongs to no beat more than to another, such as a count of free places."""
        if counted():
            later(signal, Const(0))

    def within(self, m: Module) -> "Pipeline":
        """The same steps for registers of a submodule."""
        inner = Pipeline(m, loads=self.loads)
        inner.advance, inner.moves = self.advance, self.moves
        return inner

    def each(self, make: Callable, *lanes: Iterable, within: list["Pipeline"] | None = None) -> list:
        """`make(own, *values)` of every lane, all of them alike, with `own` for its registers. While
        they are counted, the first one stands for all. Lanes have pipelines of their own where these are given in `within`."""
        rows = list(zip(*lanes, strict=True))
        circuit = counted()
        if not circuit or len(rows) < 2:
            return [make(own, *row) for own, row in zip(within or [self] * len(rows), rows, strict=True)]
        circuit.reads += set(nodes(rows[1:])).difference(nodes(rows[0]))
        return [make(within[0] if within else self.alike(len(rows)), *rows[0])] * len(rows)

    def alike(self, count: int) -> "Pipeline":
        """A pipeline in a module that stands for `count` of its kind."""
        inner = Module()
        inner.weight = self.m.weight * count
        return self.within(inner)

    def modules(self, name: str, count: int) -> list["Pipeline"]:
        """Pipelines in modules of their own, all of them alike."""
        if counted():
            return [self.alike(count)] * count
        found = []
        for k in range(count):
            self.m.submodules[f"{name}_{k}"] = module = Module()
            found.append(self.within(module))
        return found

    def rest(self, platform, live: Value, stages: int) -> None:
        """On a platform whose pipelines rest, where that saves the energy of their clocks, data stand still from `stages` steps
        behind the last `live` one on: nothing that counts is among them any more. Flags go on."""
        if not getattr(platform, "rests", False) or not stages:
            return
        left = Signal(range(stages), name="left")
        with self.m.If(self.advance):
            self.m.d.sync += left.eq(Mux(live, stages - 1, Mux(left.any(), left - 1, 0)))
        self.moves = Signal(name="moves")
        self.m.d.comb += self.moves.eq(self.advance & (live | left.any()))
        self.timeless(self.moves)

    def register(self, value: Value, name: str, stages: int = 1, shape: Shape | None = None) -> Value:
        """`value` as it was `stages` steps ago."""
        value = Value.cast(value)
        for stage in range(stages):
            register = Signal(shape or value.shape(), name=f"{name}_{stage + 1}" if stages > 1 else name, reset_less=True)
            with self.m.If(self.moves):
                self.m.d.sync += register.eq(value)
            value = self.after(register, value)
        return value

    def result(self, value: Value, shift: int, o: IntFormat, rounding: Rounding, low: int | None = None, *,
               halved: bool = False) -> Value:
        """`requantize` and a register: the value of the next output lane. `halved` has a register behind the rounding, too."""
        found = []
        if halved:
            value, rounding = self.register(rounding_sum(value, shift, rounding), "rounding"), Rounding.TRUNCATE
        y = self.register(requantize(self.m, value, shift, o, rounding, low, clipped=found), "y")
        if self.clips is not None and found:
            self.m.d.comb += self.clips[self.results].eq(self.register(found[0], "clipped"))
        self.results += 1
        return y

    def flag(self, value: Value, name: str, stages: int) -> Value:
        """Like `register`, but cleared by reset: for valid bits."""
        for stage in range(stages):
            register = Signal(name=f"{name}_{stage + 1}")
            with self.m.If(self.advance):
                self.m.d.sync += register.eq(value)
            value = self.after(register, value)
        return value

    @staticmethod
    def after(register: Signal, *sources: Value) -> Value:
        """Notes that a register is a step later than what it is made from."""
        if counted():
            later(register, Cat(sources))
        return register

    def join(self, *streams) -> Value:
        """Takes one beat of every stream together; the flag that says so."""
        together = Cat(s.valid for s in streams).all()
        for s in streams:
            self.m.d.comb += s.ready.eq(self.advance & together)
        return together

    def finish(self, lanes: list[Value], first: Value, last: Value, emits: Value, stages: int) -> None:
        """Drives `o`: `lanes` are there already, `first`, `last` and `emits` are delayed by `stages`."""
        self.m.d.comb += [
            self.o.valid.eq(self.flag(emits, "emits", stages)),
            self.o.payload.first.eq(self.register(first, "out_first", stages)),
            self.o.payload.last.eq(self.register(last, "out_last", stages)),
        ]

        def drive(own: Pipeline, lane: Value, value: Value) -> None:
            own.m.d.comb += lane.eq(value)

        self.each(drive, self.o.payload.data, lanes)
        if circuit := counted():
            fields = [flag for flag in (first, last) if type(flag) is Part]  # of a stream, whose beats the block works on
            circuit.results += [(node(lane), stages) for lane in lanes] + [(field, 0) for field in fields]


def requantize(m: Module, value: Value, shift: int, o: IntFormat, rounding: Rounding, low: int | None = None, *,
               fits: bool = False, clipped: list | None = None) -> Signal:
    """The hardware of `emamba.base.arithmetic.requantize`; `low` raises the lower limit (0 for a ReLU). `fits` says that the
    result is known to lie within `o`, so that nothing clips it. `clipped` gets a flag of results beyond the limits of `o`."""
    value = rounding_sum(value, shift, rounding)
    shifted = value.shift_right(shift) if shift > 0 else value.shift_left(-shift)
    rounded = Signal(Value.cast(shifted).shape(), name="rounded")
    result = Signal(shape_of(o), name="requantized")
    m.d.comb += [rounded.eq(shifted), result.eq(rounded)]
    if fits:
        return result
    # The bits above the result's tell whether it fits: no comparison.
    low, sign = o.min if low is None else low, rounded.shape().signed
    negative, magnitude = (rounded[-1], rounded[:-1]) if sign else (Const(0), rounded)
    above = magnitude[o.bits - o.signed:]
    if clipped is not None:
        clipped.append(Mux(negative, ~above.all() if low < 0 else 0, above.any()))
    if low < 0 and sign and not len(above):
        return result
    if low < 0 and sign:
        m.d.comb += result.eq(Mux(negative, Mux(above.all(), rounded, o.min), Mux(above.any(), o.max, rounded)))
    else:
        m.d.comb += result.eq(Mux(negative, 0, Mux(above.any(), o.max, rounded)))
    return result


def rounding_sum(value: Value, shift: int, rounding: Rounding) -> Value:
    """The value with what makes of its truncation a rounding."""
    if shift <= 0 or rounding is Rounding.TRUNCATE:
        return value
    if rounding is Rounding.HALF_UP:
        return value + (1 << (shift - 1))
    return value + ((1 << (shift - 1)) - 1) + value.shift_right(shift)[0]


def times(value: Value, constant: int) -> Value:
    """value · constant as a sum of shifts by its canonical signed digits: no multiplier."""
    terms = [value.shift_left(shift) if sign > 0 else -value.shift_left(shift) for shift, sign in signed_digits(constant)]
    return balanced_sum(terms) if terms else Const(0)


def signed_digits(value: int) -> Iterator[tuple[int, int]]:
    """(shift, sign) of the canonical signed digits: the fewest digits ±1, no two of them neighbours."""
    shift = 0
    while value:
        if value & 1:
            sign = 2 - (value & 3)
            yield shift, sign
            value -= sign
        value >>= 1
        shift += 1


def rounded_offsets(offsets: np.ndarray, shift: int, rounding: Rounding) -> tuple[np.ndarray, Rounding]:
    """Offsets that round too, where half a step is all that rounding adds, and what rounding is left."""
    if rounding is not Rounding.HALF_UP or shift <= 0:
        return offsets, rounding
    return offsets + (1 << (shift - 1)), Rounding.TRUNCATE


def rounded_bias(op: Weighted) -> tuple[np.ndarray, Rounding]:
    """The same of a bias; a dyadic multiplier comes between it and the rounding."""
    return (op.bias, op.rounding) if op.dyadic else rounded_offsets(op.bias, op.shift, op.rounding)


NARROW_BITS = 18
"""Operands of the multipliers of a device with narrow ones."""


def wide_product(pipeline: Pipeline, a: Value, b: Value, narrow: bool, name: str) -> list[Value]:
    """Terms of a · b, a step later: one, or where `narrow` multipliers cannot take all of b at once, one of its lower and one of
    its upper bits, so that no adder lies between a multiplier and its register."""
    cut = NARROW_BITS - 1
    if not narrow or len(b) <= NARROW_BITS:
        return [pipeline.register(a * b, name)]
    upper = b[cut:].as_signed() if b.shape().signed else b[cut:]
    return [pipeline.register(a * b[:cut], name), pipeline.register(a * upper, name).shift_left(cut)]


def logic_product(value: Value, weight: Value) -> Value:
    """value · weight from adders of shifted copies; 0 where the weight has no bits."""
    if not len(weight):
        return Const(0)
    copies = [Mux(bit, value, 0).shift_left(k) for k, bit in enumerate(weight)]
    if weight.shape().signed:
        copies[-1] = -copies[-1]
    return balanced_sum(copies)


def weighted_sum(pipeline: Pipeline, weights: list[Value], values: list[Value], products: Products, halved: bool) -> Value:
    """Σ weight · value, `sum_stages` steps later, exact; for an adder with a register behind it."""
    if products is Products.MERGED:
        sums = 1 if len(weights) <= MERGED_TERMS else min(MERGED_SUMS, max(2, -(-len(weights) // MERGED_PART)))
        each = -(-len(weights) // sums)
        merged = [balanced_sum([w * x for w, x in zip(weights[k:k + each], values[k:k + each], strict=True)])
                  for k in range(0, len(weights), each)]
        return balanced_sum([pipeline.register(part, "sum") for part in merged])
    parts = pipeline.each(lambda own, w, x: weighted(own, w, x, products is Products.LOGIC, halved), weights, values)
    return adder_tree(pipeline, [term for part in parts for term in part], "tree")


MERGED_TERMS, MERGED_PART, MERGED_SUMS = 4, 6, 6
"""Products that one carry-save tree takes; else, that each of several takes, and such sums that the adder behind takes at most.
All are a cycle of 1 ns in ASAP7. Two trees of some products take less energy than one of all: less switches in vain."""


def sum_stages(terms: int, products: Products, halved: bool) -> int:
    """Steps of `weighted_sum`."""
    return 1 if products is Products.MERGED else 1 + tree_stages(terms << halved)


def weighted(pipeline: Pipeline, weight: Value, value: Value, logic: bool, halved: bool) -> list[Value]:
    """Terms of weight · value, a step later: one, or of `logic` whose path is `halved` two, of its upper and lower bits."""
    if not logic:
        return [pipeline.register(weight * value, "product")]
    cut = len(weight) // 2 if halved else 0
    upper = weight[cut:].as_signed() if weight.shape().signed else weight[cut:]
    terms = [pipeline.register(logic_product(value, upper), "product").shift_left(cut)]
    return terms + [pipeline.register(logic_product(value, weight[:cut]), "product") for _ in range(halved)]


TREE_FANIN, TREE_REST = 4, 2
"""Terms that meet between two registers of an adder tree, and terms that it leaves to the adder behind it: two levels each."""


def tree_stages(terms: int) -> int:
    """Register stages of an adder tree."""
    stages = 0
    while terms > TREE_REST:
        terms = -(-terms // TREE_FANIN)
        stages += 1
    return stages


def adder_tree(pipeline: Pipeline, terms: list[Value], name: str) -> Value:
    """Σ terms, `tree_stages` steps later, exact; for an adder with a register behind it."""
    while len(terms) > TREE_REST:
        groups = [terms[k:k + TREE_FANIN] for k in range(0, len(terms), TREE_FANIN)]
        terms = [pipeline.register(balanced_sum(group), name) for group in groups]
    return balanced_sum(terms)


def balanced_sum(terms: list[Value]) -> Value:
    return reduce_tree(terms, operator.add)


def reduce_tree(terms: list[Value], pick) -> Value:
    """A balanced tree of the two-input function `pick`."""
    while len(terms) > 1:
        terms = [pick(terms[k], terms[k + 1]) if k + 1 < len(terms) else terms[k] for k in range(0, len(terms), 2)]
    return terms[0]


def register_tree(pipeline: Pipeline, terms: list[Value], pick, name: str, shape: Shape | None = None) -> Value:
    """`reduce_tree` with a register behind every level, `levels` steps later."""
    while len(terms) > 1:
        pairs = [terms[k:k + 2] for k in range(0, len(terms), 2)]
        terms = [pipeline.register(pick(*pair) if len(pair) == 2 else pair[0], name, shape=shape) for pair in pairs]
    return terms[0]


def levels(terms: int) -> int:
    """Of a balanced tree of two-input functions."""
    return (terms - 1).bit_length()


def choose(m: Module, values: list[Value], group: Value, groups: int, lanes: int) -> list[Value]:
    """The `lanes` values of group number `group`; zero beyond the last value."""
    if groups == 1:
        return values
    chosen = [Signal(values[0].shape(), name=f"chosen_{k}") for k in range(lanes)]
    with m.Switch(group):
        for k in range(groups):
            with m.Case(k):
                m.d.comb += [c.eq(value) for c, value in zip(chosen, values[k * lanes:(k + 1) * lanes], strict=False)]
    return chosen


def accumulate(m: Module, pipeline: Pipeline, value: Value, initial: Value, start: Value, live: Value, shape: Shape) -> Signal:
    """A register that takes `initial` + `value` where `start` is high, else adds `value`; one step, only where `live`."""
    total = Signal(shape, name="acc", reset_less=True)
    with m.If(pipeline.advance & live):
        m.d.sync += total.eq(value + Mux(start, initial, total))
    return pipeline.after(total, value, start, live)


def fold(values: np.ndarray, rows: int, lanes: int) -> np.ndarray:
    """[n, ...] → [rows, lanes, ...], zero beyond n."""
    padded = np.zeros((rows * lanes, *values.shape[1:]), np.int64)
    padded[:len(values)] = values
    return padded.reshape(rows, lanes, *values.shape[1:])


def bounded(bound: int) -> IntFormat:
    """The narrowest signed format that holds −bound..bound."""
    return IntFormat(bits_for(bound))


def width_of(bound: int) -> Shape:
    """Shape of a signed accumulator that holds −bound..bound."""
    return shape_of(bounded(bound))


def tap_format(values: np.ndarray) -> IntFormat:
    """The narrowest format that holds `values`."""
    if values.min() >= 0:
        return IntFormat(max(1, int(values.max()).bit_length()), False)
    return bounded(int(np.abs(values).max()))
