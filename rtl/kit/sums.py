"""The sums and comparisons of a circuit: carry chains, and rows of full adders before them."""

from collections import Counter

from .cones import LEAST_CHAIN, Cones
from .light import COMPARISONS, Node, Number, Operator
from .terms import base, is_sum, leaves, masks, rows, term, terms, zeros


def count(cones: Cones) -> tuple[Counter, Counter]:
    """Bits of each kind, and those of logic before the chains, by its inputs."""
    found, operands = Counter(), Counter()
    sums = [value for value in cones.nodes if is_sum(value)]
    inner = {part for value in sums for part, times in terms(value).items()
             if is_sum(part) and cones.alone(part, max(times, base(part.operands[0]).weight))}
    for value in sums:
        if value not in inner:
            _count(value, inner, cones, found, operands)
    for value in cones.nodes:
        if type(value) is not Operator or value.operator not in COMPARISONS:
            continue
        constant = next((operand for operand in value.operands if type(operand) is Number), None)
        bits = max(operand.width for operand in value.operands if operand is not constant)
        if value.operator in ("==", "!=") or bits < LEAST_CHAIN:
            cones.add(bits * (1 + (constant is None)), value.weight)
        else:
            found["adders" if constant is None else "comparisons"] += bits * value.weight
    return found, operands


def _count(value: Node, inner: set[Node], cones: Cones, found: Counter, operands: Counter) -> None:
    """As Yosys adds: rows of full adders leave two words to a carry chain. A single bit takes the free place below a row's
    carries, or the carry into the chain."""
    added, weight, bits = leaves(value, inner), value.weight, value.need.bit_length()
    constants = {leaf for leaf in added if type(term(leaf)) is Number or rows(leaf) is not None}
    parts = [term(leaf) for leaf in added if leaf not in constants]
    words = [leaf for leaf in added if leaf.width > 1 or leaf.signed]
    product = sum(map(masks, parts)) > 1
    narrow, times = min(leaf.width for leaf in added), Counter(parts)
    for part in parts:
        cones.inside.add(part)
        if product and masks(part):
            found["partials"] += part.width * weight
        elif cones.alone(part, times[part]):
            inputs, own = len(cones.of(part)), part.need.bit_count() * weight
            if len(parts) == 2 and part.width <= narrow:  # the chain takes it twice
                cones.add(inputs, own)
            elif inputs > 1:
                operands[inputs] += own
    if bits < LEAST_CHAIN:
        cones.add(2 * len(parts), bits * weight)
    elif len(parts) < 2:
        found["increments"] += (bits - max(map(zeros, constants), default=0)) * weight
        found["inversions"] += sum((term(leaf).value & (1 << bits) - 1).bit_count() if type(term(leaf)) is Number
                                   else bits // 2 for leaf in constants) * weight
    elif cones.uses[value] or len(words) > 1:  # else a bit that another chain takes
        full = (1 << bits) - 1
        held = [full & -1 << zeros(leaf) & (-1 if leaf.signed or leaf in constants else (1 << leaf.width) - 1) for leaf in words]
        _add([*held, *[1] * max(0, (len(added) - 2 * len(held)) // 2 + 1)], full, weight, found, product)


def _add(words: list[int], full: int, weight: int, found: Counter, product: bool) -> None:
    """Of words, whose bits say where they are not 0."""
    kind, later = ("partials", "partials") if product else ("carry_saves", "compressors")
    while len(words) > 2:
        left = words[len(words) // 3 * 3:]
        for a, b, c in zip(*[iter(words)] * 3, strict=False):
            both = a & b | a & c | b & c
            found[kind] += both.bit_count() * weight
            left += [a | b | c, both << 1 & full]
        words, kind = left, later
    both = words[0] & words[-1]
    found["adders"] += both.bit_count() * weight
    found["increments"] += (full.bit_length() - (both & -both).bit_length() + 1 - both.bit_count()) * weight
