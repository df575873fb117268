"""The register bank: what is bound is there, and what is not is refused by a sentence."""

import pytest
from amaranth.hdl import Fragment, Module, Signal

from emamba.base.errors import Mismatch
from rtl.system.axi import AxiLite
from rtl.system.bank import KINDS, Bank
from rtl.system.registers import REGISTERS, Access

pytestmark = pytest.mark.quick

CAPABILITIES = {"COUNTERS", "LOADABLE", "STATEFUL", "PARITY", "FULL"}


MADE: list[Module] = []


def fresh(capabilities=CAPABILITIES) -> Bank:
    m = Module()
    m.submodules.lite = lite = AxiLite()
    MADE.append(m)
    return Bank(m, lite, capabilities)


@pytest.fixture(autouse=True)
def elaborated():
    """Amaranth warns of what is never elaborated."""
    yield
    while MADE:
        Fragment.get(MADE.pop(), None)


def bound(*left_out: str, capabilities=CAPABILITIES) -> Bank:
    """A bank in which every register is bound but those `left_out`, each by its fields where it has any."""
    bank = fresh(capabilities)
    for entry in REGISTERS:
        register = getattr(bank, entry.name.lower())
        fields = [field.name.lower() for field in entry.fields if f"{entry.name}.{field.name}" not in left_out]
        if entry.name in left_out:
            continue
        if entry.access is Access.READ and fields:
            register.reads(**dict.fromkeys(fields, 1))
        elif entry.access is Access.READ:
            register.reads(1)
        elif entry.access is Access.CLEAR:
            register.on(**{name: Signal() for name in fields if name != "address"})
        elif fields:
            assert all(len(getattr(register, name)) for name in fields)
        else:
            assert register.written
        if entry.name == "STATE_DATA":
            register.reads(1)
    return bank


def test_all_are_bound():
    bound().connect()


@pytest.mark.parametrize("name", [
    "SHORT_PACKETS", "STATUS.IDLE", "COMMAND.ABANDON", "CONTROL.FREEZE", "ERRORS.LONG", "SCRATCH.VALUE", "LOAD_DATA", "BUSY"])
def test_unbound(name):
    with pytest.raises(Mismatch) as refused:
        bound(name).connect()
    assert str(refused.value) == (f"nothing in the design binds {name}; bind it, or let it need a capability in "
                                  "rtl/system/registers.py")


@pytest.mark.parametrize("left_out, capability", [
    (("LOAD_DATA", "LOAD_COMMAND", "LOAD_CHECKSUM", "STATUS.LOADING"), "LOADABLE"), (("BUSY", "PEAK"), "COUNTERS"),
    (("STATE_DATA", "ERRORS.STATE_BUSY"), "STATEFUL"), (("PARITY_FAULTS", "ERRORS.PARITY"), "PARITY")])
def test_optional(left_out, capability):
    """What needs a capability may be left out of a design without it alone."""
    bound(*left_out, capabilities=CAPABILITIES - {capability}).connect()
    with pytest.raises(Mismatch, match="nothing in the design binds ") as refused:
        bound(*left_out).connect()
    assert all(name in str(refused.value) for name in left_out)


@pytest.mark.parametrize("use, sentence", [
    (lambda bank: bank.short_pakets.count(0), "there is no register SHORT_PAKETS; do you mean SHORT_PACKETS?"),
    (lambda bank: bank.weather, "there is no register WEATHER"),
    (lambda bank: bank.command.rest, "the register COMMAND (wo) has no REST; do you mean RESET?"),
    (lambda bank: bank.control.freezes, "the register CONTROL (rw) has no FREEZES; do you mean FREEZE?"),
    (lambda bank: bank.command.count(1), "the register COMMAND (wo) has no COUNT"),
    (lambda bank: bank.tokens.written, "the register TOKENS (ro) has no WRITTEN"),
    (lambda bank: bank.errors.on(shorts=0), "the register ERRORS has no field SHORTS; do you mean SHORT?"),
    (lambda bank: bank.status.reads(idel=0), "the register STATUS has no field IDEL; do you mean IDLE?"),
])
def test_misspelt(use, sentence):
    with pytest.raises(AttributeError) as refused:
        use(fresh())
    assert str(refused.value) == sentence


def test_bound_twice():
    bank = bound()
    with pytest.raises(Mismatch, match=r"ERRORS\.SHORT is bound twice"):
        bank.errors.on(short=0)
    with pytest.raises(Mismatch, match="the register TOKENS has 1 words and gets 2 values"):
        bank.tokens.reads(1)


def test_names():
    """No register, and no field that is an attribute, has the name of another attribute."""
    bank = fresh()
    assert not {entry.name.lower() for entry in REGISTERS} & {*dir(Bank), *vars(bank)}
    for entry in REGISTERS:
        if entry.access in (Access.WRITE, Access.BOTH):
            register = getattr(bank, entry.name.lower())
            assert not {field.name.lower() for field in entry.fields} & {*dir(KINDS[entry.access]), *vars(register)}
