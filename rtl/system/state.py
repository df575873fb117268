"""Reading and writing the recurrent state through the registers, between packets."""

from amaranth.hdl import Module, Mux, Signal

from ..kit.states import States
from .bank import Bank
from .core import Core


def connect(m: Module, bank: Bank, core: Core, states: States) -> None:
    """Connects the registers of the state with the memories of `states`."""
    value, given = bank.state_data.written
    place, moves = bank.state_address.written
    address = Signal(32)
    asked = bank.state_data.read
    open_ = core.idle & ~bank.control.enable
    data = states.connect(m, open_, given, address, value)
    # Over a cleared state only a whole one counts: until then it reads as zeros and packets begin with zeros.
    whole = Signal(name="state_whole")  # every word before the address was written since STATE_ADDRESS was
    with m.If(moves):
        m.d.sync += [address.eq(place), whole.eq((place == 0) & bank.state_address.mask.all())]
    with m.Elif(asked | given):
        m.d.sync += [address.eq(address + 1), whole.eq(whole & given & open_)]
    with m.If(core.clears | core.begins):
        m.d.sync += whole.eq(0)
    m.d.comb += core.restored.eq(given & open_ & whole & (address == states.words - 1))
    bank.errors.on(state_busy=(asked | given) & ~open_)
    bank.state_address.reads(address)
    bank.state_data.reads(Mux(core.cleared, 0, data))
    bank.state_words.reads(states.words)
