"""Resources of an engine from its widths, at once: the counterpart of `rtl.plan.cost`, by whose coefficients it counts."""

from collections import Counter

from emamba.base.formats import Rounding
from emamba.ops import RangeNorm

from ..engine.encode import OPERANDS, pack
from ..engine.micro import A, Acc, B, bits_of
from ..engine.schedule import EngineSchedule
from ..kit.inventory import Inventory, choices, product, tables, width
from .cost import RESOURCES, mapped, resources

OWN = {A.WEIGHT, A.KEPT, A.DECAY, A.DECAY_UP}, {B.ROW, *range(B.HELD, B.KEPT + 1)}
"""Factors that each lane has for itself."""
SHARES = {"ecp5": {"lanes": 0.77, "post-processors": 0.83, "sequencer": 0.67, "memories": 2.4, "norm unit": 1.26},
          "xcup": {"lanes": 1.03, "post-processors": 0.93, "sequencer": 0.61, "memories": 2.16, "norm unit": 1.16},
          "ice40": {"lanes": 0.87, "post-processors": 1.4, "sequencer": 0.83, "memories": 7.04, "norm unit": 2.86}}
"""By how much Yosys' lookup tables of MARS with 8 lanes differ from those that are counted here."""
GRANULE = 9
"""Bits of a block RAM that are written apart."""
ISSUED, QUEUE = 114, 16
"""Bits of registers of what goes down the lanes' pipeline and of small counters, and of the pointers of the results' queue."""
SHALLOW = 16
"""Words up to which a memory is one of lookup tables."""


def inventories(schedule: EngineSchedule) -> dict[str, Inventory]:
    """What an engine's parts are made of, by name."""
    e, lanes, posts = schedule.encoded, schedule.machine.lanes, schedule.machine.posts
    found = {"lanes": _lane(e) * lanes, "post-processors": _post(e) * posts + _drain(e), "sequencer": _sequencer(e),
             "memories": _memories(schedule)}
    return found | ({"norm unit": _norms(e)} if e.norms else {})


def estimate(schedule: EngineSchedule, family: str, by_part: bool = False) -> dict:
    """Resources of the engine alone, without the system around it, as `rtl.plan.cost.estimate` gives them."""
    found, lut = {}, RESOURCES[family][0]
    for name, inventory in inventories(schedule).items():
        part, known = resources(inventory, family), mapped(inventory, family).known[lut]
        found[name] = part | {lut: known + (part[lut] - known) * SHARES[family][name]}
    return found if by_part else {name: sum(part[name] for part in found.values()) for name in RESOURCES[family]}


def _lane(e) -> Inventory:
    a, b = (sum(key in own for key in keys) for keys, own in zip((e.firsts, e.seconds), OWN, strict=True))
    registers = 2 * (e.a_bits + e.b_bits) + e.sum_bits + e.held_bits + e.kept_bits
    found = product(e.a_bits, e.b_bits) + Inventory(adders=e.sum_bits, registers=registers)
    found += choices(e.a_bits, a + 1) + choices(e.b_bits, b + 1) + choices(e.sum_bits, len(e.accs))
    found += choices(e.kept_bits, 1 + len(e.row_shifts))
    for decay in e.decays:
        op, reads = decay.op, decay.op.decay.i.bits
        clipped = 0 if decay.certified else e.state_bits + op.h.bits
        found += Inventory(increments=op.h.bits + reads + e.sum_bits * (Acc.TERM in e.accs and op.term_shift > 0),
                           comparisons=2 * clipped + reads) + choices(clipped + e.decay_bits)
        if not decay.tabled:
            segments, bits = len(op.decay.slopes), bits_of(op.decay.slopes.tolist())
            found += product(reads, bits) + choices(bits, segments)
            found += Inventory(comparisons=reads * segments, adders=reads + bits, registers=5 * reads + e.decay_bits)
    read = {(decay.bits, decay.op.decay.i, decay.op.argument_shift) for decay in e.decays if decay.tabled}  # alike ones are one
    found += Inventory(registers=sum(bits + 2 for bits, *_ in read))
    tabled = [decay for decay in e.decays if decay.tabled and not e.shared]
    if tabled:
        found += _rom(len(tabled) << max(decay.bits for decay in tabled), e.decay_bits)
    return found


def _post(e) -> Inventory:
    wide, bits = e.drained_bits + e.left + 1, e.result_bits
    ways = 1 + any(clip.rounding is Rounding.HALF_EVEN for clip in e.clips)
    found = Inventory(adders=e.drained_bits + 2 * bits, increments=bits, comparisons=wide,
                      registers=e.drained_bits + 2 * bits + 3)
    found += choices(wide * width(e.shifts[1] + e.left + 1) * ways + 3 * bits) + choices(bits, 1 + len(e.clips) // 2)
    if e.tables:
        bits = bits_of([int(end(table)) for table in e.tables for end in (min, max)])
        found += _rom(len(e.tables) * max(len(table) for table in e.tables), bits - (bits == 9))  # a byte, nearly always
    return found


def _drain(e) -> Inventory:
    """The row that drains, and the settings that go with it."""
    bits, row, doubles = e.machine.lanes * e.sum_bits, width(e.program.rows + 1), any(word["double"] for word in e.words)
    settings = 16 + row
    return Inventory(registers=bits + (4 + doubles) * settings + 3 * row, control=8) + choices(
        bits + (40 + 2 * row) * (1 + doubles))


def _sequencer(e) -> Inventory:
    row, place, state = (width(max(2, count)) for count in (e.program.rows, len(e.program.weights) if not e.image else 2,
                                                            e.program.states))
    counters = sum(field.width for _, field in e.body) + 5 * row + width(max(2, e.machine.lanes))
    addresses = (OPERANDS + 3) * row + 2 * place + 2 * state
    found = Inventory(adders=addresses + 2 * row, increments=counters, comparisons=2 * counters, control=20,
                      registers=(OPERANDS + 2) * row + place + 6 * state + e.body.size + e.micro.size + ISSUED)
    found += choices(2 * addresses + counters) + choices(row, OPERANDS + 2)
    for words, layout in ((len(e.bodies), e.body), (len(e.micros), e.micro)):
        found += _logic(words, layout.size)
    return found + (Inventory() if e.image else _rom(len(e.words), e.instruction.size, _columns(pack(e.instruction, e.words))))


def _memories(schedule: EngineSchedule) -> Inventory:
    e, program, machine, queue = schedule.encoded, schedule.program, schedule.machine, schedule.queues()[0]
    written = machine.posts * e.value_bits
    granule = -(-written // GRANULE) * GRANULE if program.rows > 256 or not e.shared else 16
    found = _ram(program.rows, machine.beats * granule)
    found += choices(e.value_bits, machine.lanes) + choices(e.value_bits * machine.posts)
    if program.states:
        found += _ram(program.states, machine.lanes * e.state_bits)
    if program.biases.any():
        found += _rom(len(program.biases), machine.posts * e.bias_bits)
    bits = queue.port.lanes * queue.port.format.bits + 2
    found += _ram(queue.depth, bits) + Inventory(registers=2 * bits + QUEUE)
    if e.image:
        return found + _ram(machine.stream.rows, machine.lanes * 8)
    return found if e.shared else found + _rom(len(program.weights), machine.lanes * program.weight_bits)


def _ram(words: int, bits: int) -> Inventory:
    """A memory that is read a cycle later, which in lookup tables takes a register after them."""
    return Inventory(rams=Counter({(max(2, words), bits, True): 1}), registers=bits * (words <= SHALLOW))


def _norms(e) -> Inventory:
    posts, value, total = e.machine.posts, e.value_bits, e.total_bits
    depth = 256 if e.shared else max(2, e.program.most_tokens)  # a block RAM of a small engine
    found = Inventory(adders=posts * (total + 2 * value), registers=posts * value + total + 4 * value)
    found += choices(posts * 2 * value) + _ram(depth, total + value)
    for key in e.norms:
        op, squared = key.op, not isinstance(key.op, RangeNorm)
        bits = op.spread_bits
        found += _rom(len(op.reciprocals[0]), op.entry_bits) + choices(bits * width(bits)) + Inventory(
            comparisons=bits, registers=2 * bits, increments=op.entry_bits, partials=op.entry_bits)
        if squared:
            found += Inventory(adders=posts * bits, registers=bits) + _ram(depth, bits)
            found += product(total, total) if getattr(op, "centered", False) else Inventory()
    return found


def _columns(words: list[int]) -> int:
    """Different columns of bits that are not constant."""
    columns = {tuple(word >> bit & 1 for word in words) for bit in range(max(words).bit_length())}
    return sum(len(set(column)) > 1 for column in columns)


def _rom(words: int, bits: int, columns: int | None = None) -> Inventory:
    """Words that come a cycle after their address."""
    columns = columns or bits
    return Inventory(roms=Counter({(words, bits, None, columns, *tables(words, columns)): 1})) if words > 1 else Inventory()


def _logic(words: int, bits: int) -> Inventory:
    """Words that come at once."""
    return choices(bits, 1 + words // 4)
