"""Weights from a memory outside: the registers that say where they lie."""

from amaranth.hdl import Cat, Module
from amaranth.lib import wiring

from ..engine.supply import Supply
from .bank import Bank
from .core import Core


def connect(m: Module, bank: Bank, core: Core, supply: Supply) -> None:
    """Connects the registers and the engine with what reads the memory, which a reset of the core does not break off."""
    wiring.connect(m, supply.rows, core.accelerator.rows)
    reads = bank.stream_control.enable
    m.d.comb += [supply.base.eq(Cat(bank.stream_address.low, bank.stream_control.high)), supply.enable.eq(reads),
                 supply.flush.eq(core.reset | ~reads)]
    bank.errors.on(stream=supply.error)
