"""What a scan is made of."""

from ..kit import inventory as inv
from ..kit.datapath import bounded, tap_format, tree_inventory, wide_inventory, width_of
from ..kit.rom import memory_inventory, rom_latency, rom_parts
from .activation import piecewise_inventory

LOOP = 4
"""Steps of the recurrence, where a row has so much time: read, first token or not, Ā·h, sum and write."""


def inventory(scan, options) -> inv.Inventory:
    """Of the spec of a scan."""
    op, lanes, states, operands = scan.op, scan.lanes, scan.state_lanes, scan.operands
    wait, before = scan.lead + scan.loop, scan.lead + scan.loop + 1 + scan._tree_stages
    bits, C = width_of(op.y_bound).width, inv.signed_bits(op.C)
    products, terms = wide_inventory(C, op.h_wide.bits, scan.narrow)
    parts, left = tree_inventory(terms * states)
    channel = (inv.register(op.u.bits + op.dt.bits, operands) + _channel(scan, before)
               + (_state(scan, options) + products) * states
               + parts + inv.total([*left, bits])[0] + inv.Inventory(operand_muxes=bits)
               + inv.register(bits + op.o.bits) + inv.requantizer(bits, op.y_shift, op.o, op.rounding))
    row = inv.width(scan.cycles)  # its delay is also the addresses' of the tables; `valid`'s that of all flags
    B_held = inv.register(states * op.B.bits * (not op.delta_b), 1 + scan.shared)
    shared = (inv.register(states * op.B.bits, operands) + B_held
              + inv.register(states * op.C.bits, wait) + inv.register(1, before) + inv.register(row, scan.lead)
              + inv.Inventory(registers=before) + inv.chosen(states * (op.B.bits + op.C.bits), scan.state_groups)
              + inv.register(row, scan.loop - 1) + inv.ram(scan.cycles, op.h.bits * lanes * states, held=scan.loop == LOOP)
              + memory_inventory(scan, "D", operands, options))
    if scan.table:
        words = scan.cycles << scan.code_bits
        bits = op.a_bar.bits * scan.decay_units // lanes  # block RAM: what it holds matters not
        address = inv.register(scan.code_bits, scan.lead - rom_latency(words))
        decays = lanes * (rom_parts(words, bits, "block", bits) + address)
    else:
        decays = memory_inventory(scan, "A", operands, options) + _decay(scan) * scan.decay_units
    counters = inv.counter(scan.cycles) + inv.counter(scan.channel_groups) + inv.counter(scan.state_groups)
    return channel * lanes + shared + decays + counters + inv.finish(scan.latency)


def _channel(scan, before: int) -> inv.Inventory:
    """δ·u and D·u of a channel."""
    op, operands = scan.op, scan.operands
    u, dt, D = inv.signed_bits(op.u), inv.signed_bits(op.dt), inv.signed_bits(tap_format(op.D))
    held = inv.register(1, scan.lead) if op.hold and not scan.table else inv.Inventory()
    if op.delta_b:
        return held + inv.product(D, u, False) + inv.register(D + u, before - operands) + inv.register(u, 2)
    if scan.state_groups == 1:
        return held + inv.product(dt, u) + inv.product(D, u, False) + inv.register(D + u, before - operands)
    a = max(dt, D)
    return (held + inv.product(a, u) + inv.register(a + u, before - operands - 2)
            + inv.Inventory(muxes=a, registers=a + u))


def _decay(scan) -> inv.Inventory:
    """An Ā that no table gives."""
    op = scan.op
    dt, A = inv.signed_bits(op.dt), inv.signed_bits(tap_format(op.A))
    return (inv.product(dt, A, False) + inv.register(op.p.bits) + piecewise_inventory(inv.signed_bits(op.p), op.decay)
            + inv.Inventory(muxes=op.a_bar.bits * op.hold))


def _state(scan, options) -> inv.Inventory:
    """Input term and recurrence of a state."""
    op, rest = scan.op, scan.lead - scan.operands - 2 - scan.shared
    u, dt, B, a_bar = (inv.signed_bits(x) for x in (op.u, op.dt, op.B, op.a_bar))
    D = inv.signed_bits(tap_format(op.D))
    if op.delta_b:
        state = (inv.product(dt, B) + inv.requantizer(dt + B, op.b_bar_shift, op.b_bar, op.rounding)
                 + inv.register(op.b_bar.bits) + inv.product(op.b_bar.bits, u, False)
                 + inv.register(op.b_bar.bits + u, rest + scan.loop - 1))
        term = op.b_bar.bits + u + op.a_bar.frac
    else:
        term, du = bounded(op.term_bound), u + (max(dt, D) if scan.state_groups > 1 else dt)
        state = inv.product(du, B, False) + inv.requantizer(du + B, op.term_shift, term, op.rounding, True)
        if op.term_shift > 0:
            state += inv.register(du + B, rest) + inv.register(term.bits, scan.loop)
        else:
            state += inv.register(du + B, rest + scan.loop)
        term = term.bits
    waits = max(0, scan.loop - 2)
    state += inv.register(op.h.bits * min(waits, 1)) + inv.register(op.a_bar.bits, waits + scan.table)
    bits, fits = max(op.h.bits + a_bar, term) + 1, not scan.saturates(options)
    return (state + inv.product(op.h.bits, a_bar, scan.loop >= 2) + inv.register(op.h_wide.bits)
            + inv.Inventory(adders=bits, muxes=op.h.bits * (scan.cycles > 1))
            + inv.requantizer(bits, 0, op.h_wide, op.rounding, fits)
            + inv.requantizer(op.h_wide.bits, op.a_bar.frac, op.h, op.rounding, fits))
