"""Resources of an engine from its widths, at once: the counterpart of `rtl.plan.cost`, by whose coefficients it counts."""

from collections import Counter

from emamba.base.formats import Rounding
from emamba.ops import RangeNorm

from ..engine.encode import OPERANDS
from ..engine.micro import A, Acc, B, bits_of
from ..engine.schedule import EngineSchedule
from ..kit.inventory import Inventory, product, ram, width
from .cost import RESOURCES, mapped, resources

OWN = {A.WEIGHT, A.KEPT, A.DECAY, A.DECAY_UP}, {B.ROW, *range(B.HELD, B.WIDE_HIGH + 1)}
"""Factors that each lane has for itself."""
SHARES = {"ecp5": {"lanes": 0.59, "post-processors": 0.89, "sequencer": 0.46, "norm unit": 1.34, "memories": 1.99},
          "xcup": {"lanes": 0.73, "post-processors": 0.92, "sequencer": 0.41, "norm unit": 1.09, "memories": 1.98},
          "ice40": {"lanes": 0.63, "post-processors": 1.04, "sequencer": 0.58, "norm unit": 2.12, "memories": 4.51}}
"""By how much Yosys' lookup tables of MARS with 8 lanes differ from those that are counted here."""
GRANULE = 9
"""Bits of a block RAM that are written apart."""


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
    found = product(e.a_bits, e.b_bits) + Inventory(
        selects=e.a_bits * (a + 1) + e.b_bits * (b + 1) + e.sum_bits * len(e.accs), adders=e.sum_bits,
        muxes=e.kept_bits * (1 + len(e.row_shifts)), registers=registers)
    for decay in e.decays:
        op, reads = decay.op, decay.op.decay.i.bits
        clipped = 0 if decay.certified else e.state_bits + op.h.bits
        found += Inventory(increments=op.h.bits + reads + e.sum_bits * (Acc.TERM in e.accs and op.term_shift > 0),
                           comparisons=2 * clipped + reads, muxes=clipped + e.decay_bits, registers=reads + e.decay_bits)
        if not decay.tabled:
            segments, bits = len(op.decay.slopes), bits_of(op.decay.slopes.tolist())
            found += product(reads, bits) + Inventory(comparisons=reads * segments, adders=reads + bits, selects=bits * segments,
                                                      registers=4 * reads)
    tables = [decay for decay in e.decays if decay.tabled and not e.shared]
    if tables:
        found += _rom(len(tables) << max(decay.bits for decay in tables), e.decay_bits)
    return found


def _post(e) -> Inventory:
    wide, bits = e.drained_bits + e.left + 1, e.result_bits
    ways = 1 + any(clip.rounding is Rounding.HALF_EVEN for clip in e.clips)
    found = Inventory(adders=e.drained_bits + 2 * bits, increments=bits, comparisons=wide, registers=e.drained_bits + 2 * bits,
                      muxes=wide * width(e.shifts[1] + e.left + 1) * ways + 3 * bits, selects=len(e.clips) * bits // 2)
    if e.tables:
        bits = bits_of([int(end(table)) for table in e.tables for end in (min, max)])
        found += _rom(len(e.tables) * max(len(table) for table in e.tables), bits - (bits == 9))  # a byte, nearly always
    return found


def _drain(e) -> Inventory:
    """The row that drains, and the settings that go with it."""
    bits, settings = e.machine.lanes * e.sum_bits, 40 + 2 * width(e.program.rows + 1)
    doubles = any(word["double"] for word in e.words)
    return Inventory(muxes=bits + settings * (1 + doubles), registers=bits + (4 + doubles) * settings, control=8)


def _sequencer(e) -> Inventory:
    row, place, state = (width(max(2, count)) for count in (e.program.rows, len(e.program.weights) if not e.image else 2,
                                                            e.program.states))
    counters = sum(field.width for _, field in e.body) + 5 * row + width(max(2, e.machine.lanes))
    addresses = (OPERANDS + 3) * row + 2 * place + 2 * state
    found = Inventory(adders=addresses + 2 * row, increments=counters, comparisons=2 * counters, control=20,
                      muxes=2 * addresses + counters, selects=(OPERANDS + 2) * row,
                      registers=addresses + counters + 5 * (40 + state) + 2 * e.micro.size)
    for words, layout in ((len(e.bodies), e.body), (len(e.micros), e.micro)):
        found += _logic(words, layout.size)
    return found + (Inventory() if e.image else _rom(len(e.words), e.instruction.size))


def _memories(schedule: EngineSchedule) -> Inventory:
    e, program, machine, queue = schedule.encoded, schedule.program, schedule.machine, schedule.queues()[0]
    written = machine.posts * e.value_bits
    granule = -(-written // GRANULE) * GRANULE if program.rows > 256 or not e.shared else 16
    found = ram(max(2, program.rows), machine.beats * granule, True)
    found += Inventory(selects=e.value_bits * machine.lanes, muxes=e.value_bits * machine.posts)
    if program.states:
        found += ram(max(2, program.states), machine.lanes * e.state_bits, True)
    if program.biases.any():
        found += _rom(len(program.biases), machine.posts * e.bias_bits)
    found += ram(queue.depth, queue.port.lanes * queue.port.format.bits + 2, True)
    if e.image:
        return found + ram(machine.stream.rows, machine.lanes * 8, True)
    return found if e.shared else found + _rom(len(program.weights), machine.lanes * program.weight_bits)


def _norms(e) -> Inventory:
    posts, value, total = e.machine.posts, e.value_bits, e.total_bits
    depth = 256 if e.shared else max(2, e.program.most_tokens)  # a block RAM of a small engine
    found = Inventory(adders=posts * (total + 2 * value), muxes=posts * 2 * value, registers=posts * value + total + 2 * value)
    found += ram(depth, total + value, True)
    for key in e.norms:
        op, squared = key.op, not isinstance(key.op, RangeNorm)
        bits = op.spread_bits
        found += _rom(len(op.reciprocals[0]), op.entry_bits) + Inventory(
            muxes=bits * width(bits), comparisons=bits, registers=2 * bits, increments=op.entry_bits, partials=op.entry_bits)
        if squared:
            found += Inventory(adders=posts * bits, registers=bits) + ram(depth, bits, True)
            found += product(total, total) if getattr(op, "centered", False) else Inventory()
    return found


def _rom(words: int, bits: int) -> Inventory:
    """Words that come a cycle after their address."""
    return Inventory(roms=Counter({(words, bits, None, bits): 1})) if words > 1 else Inventory()


def _logic(words: int, bits: int) -> Inventory:
    """Words that come at once."""
    return Inventory(selects=words * bits // 4)

