"""The register bank, made from the table of `rtl.system.registers`."""

from collections.abc import Collection, Iterable
from difflib import get_close_matches

from amaranth.hdl import Cat, Module, Mux, Signal, Value, ValueLike

from emamba.base.errors import Mismatch

from .axi import AxiLite
from .registers import REGISTERS, Access, Field, Register


class Bank:
    """Every register of the table as an attribute in lower case. The parts of a design bind them, as their access allows:

    - `ro`: `bank.tokens.reads(value)`, `bank.status.reads(idle=value)`, or `bank.frames_in.count(event)`;
    - `wo`: `bank.load_data.written`; `bank.command.reset` is high for a cycle as a 1 is written to the field;
    - `rw`: `bank.scratch.hold()`, or `bank.control.enable` for a field: what was written; else both `reads` and `written`;
    - `w1c`: `bank.errors.on(short=cause)`.

    What is bound is written into `m`, so outside of its conditions. `connect`, called last, decodes the addresses.
    """

    def __init__(self, m: Module, lite: AxiLite, capabilities: Collection[str] = ()):
        self._m, self._lite, self._capabilities = m, lite, capabilities
        self._registers = {entry.name.lower(): KINDS[entry.access](entry, m, lite) for entry in REGISTERS}
        for register in self._registers.values():
            register.clear = self.command.clear_counters

    def __getattr__(self, name: str) -> "_Register":
        if name not in self._registers:
            raise AttributeError(f"there is no register {name.upper()}{_near(name, self._registers)}")
        return self._registers[name]

    def connect(self) -> None:
        """Decodes the addresses; an access to any other is an error.

        Raises
        ------
        Mismatch
            for what is not bound, unless the table names a capability for it that the design lacks
        """
        m, lite, registers = self._m, self._lite, self._registers.values()
        outside = Signal()
        self.errors.on(address=outside)
        if unbound := [name for register in registers for name in register.unbound(self._capabilities)]:
            raise Mismatch(f"nothing in the design binds {', '.join(unbound)}; bind it, or let it need a capability in "
                           "rtl/system/registers.py")
        m.d.comb += [lite.w_error.eq(1), lite.r_error.eq(1), outside.eq(lite.w_en & lite.w_error | lite.r_en & lite.r_error)]
        with m.Switch(lite.w_address):
            for register in registers:
                if register.entry.access is not Access.READ:
                    with m.Case(register.entry.offset >> 2):
                        m.d.comb += lite.w_error.eq(0)
        with m.Switch(lite.r_address):
            for register in registers:
                for k, word in enumerate(register.words or [0] * (register.entry.count == 1)):
                    with m.Case(register.entry.address(k) >> 2):
                        m.d.comb += [lite.r_error.eq(0), lite.r_data.eq(word)]


class _Register:
    """A register, bound as a whole by each of its `uses`, or else by each of its fields. `words` are what reading it gives."""

    uses: frozenset[str] = frozenset({"read"})

    def __init__(self, entry: Register, m: Module, lite: AxiLite):
        self.entry, self.m, self.lite, self.name = entry, m, lite, entry.name.lower()
        self.fields = {field.name.lower(): field for field in entry.fields}
        self.used: set[str] = set()  # uses and fields
        self.words: list[ValueLike] = []

    def __getattr__(self, name: str):
        raise AttributeError(f"the register {self.entry.name} ({self.entry.access.value}) has no {name.upper()}"
                             f"{_near(name, self.fields)}")

    @property
    def read(self) -> Value:
        """High for a cycle as the first word is read."""
        return self.lite.r_en & (self.lite.r_address == self.entry.offset >> 2)

    def unbound(self, capabilities: Collection[str]) -> list[str]:
        """The names of what is not bound and must be in a design with `capabilities`."""
        def needed(part: Register | Field) -> bool:
            return part.capability in ("", *capabilities)

        if self.uses <= self.used or not needed(self.entry):
            return []
        if not self.fields:
            return [self.entry.name]
        return [f"{self.entry.name}.{field.name}" for name, field in self.fields.items()
                if name not in self.used and needed(field)]

    def _assign(self, word: Signal, values: dict[str, ValueLike]) -> None:
        """Gives fields of a word their values."""
        for name, value in values.items():
            if name not in self.fields:
                raise AttributeError(f"the register {self.entry.name} has no field {name.upper()}{_near(name, self.fields)}")
            if name in self.used:
                raise Mismatch(f"{self.entry.name}.{name.upper()} is bound twice")
            low, width = self.fields[name].low, self.fields[name].width
            self.m.d.comb += word[low:low + width].eq(value)
            self.used.add(name)


class _Readable(_Register):
    def reads(self, *words: ValueLike, **fields: ValueLike) -> None:
        """Gives the next words, or fields, their values."""
        if words:
            self.used.add("read")
            self.words += words
        elif not self.words:
            self.words = [Signal(32, name=self.name)]
        if len(self.words) > self.entry.count:
            raise Mismatch(f"the register {self.entry.name} has {self.entry.count} words and gets {len(self.words)} values")
        self._assign(self.words[0], fields)

    def count(self, event: ValueLike) -> Signal:
        """Makes the next word a counter of the cycles in which `event` is high, until COMMAND.CLEAR_COUNTERS."""
        count = Signal(32, name=self.name)
        with self.m.If(self.clear):
            self.m.d.sync += count.eq(0)
        with self.m.Elif(event):
            self.m.d.sync += count.eq(count + 1)
        self.reads(count)
        return count


class _Written(_Register):
    """`en` is high for a cycle as the register is written, `mask` has the bits that are."""

    def __init__(self, entry: Register, m: Module, lite: AxiLite):
        super().__init__(entry, m, lite)
        self.en, self.mask = Signal(name=f"write_{self.name}"), Cat(bit.replicate(8) for bit in lite.w_strobe)
        m.d.comb += self.en.eq(lite.w_en & (lite.w_address == entry.offset >> 2))


class _Command(_Written):
    uses = frozenset({"write"})

    @property
    def written(self) -> tuple[Value, Signal]:
        """The word that is written, and high for a cycle as it is."""
        self.used.add("write")
        return self.lite.w_data, self.en

    def __getattr__(self, name: str) -> Value:
        if name not in self.fields:
            return super().__getattr__(name)
        self.used.add(name)
        return self._field(self.fields[name])

    def _field(self, field: Field) -> Value:
        return self.en & self.lite.w_data[field.low] & self.lite.w_strobe[field.low // 8]


class _Mode(_Command):
    uses = frozenset({"read", "write"})

    def hold(self) -> Signal:
        """Keeps what is written, and returns it."""
        self.used |= self.uses
        return self._kept()

    def reads(self, word: ValueLike) -> None:
        """Gives the register another value than what was written."""
        self.used.add("read")
        self.words = [word]

    def _field(self, field: Field) -> Value:
        return self._kept()[field.low:field.low + field.width]

    def _kept(self) -> Signal:
        if not self.words:
            self.words = [kept := Signal(32, name=self.name, init=self.entry.reset)]
            meant = sum(field.mask for field in self.entry.fields)
            with self.m.If(self.en):
                self.m.d.sync += kept.eq((self.lite.w_data & self.mask | kept & ~self.mask) & meant)
        return self.words[0]


class _Sticky(_Written):
    """`now` holds the causes of this cycle, `seen` those since it was cleared."""

    def __init__(self, entry: Register, m: Module, lite: AxiLite):
        super().__init__(entry, m, lite)
        self.now, self.seen = (Signal(32, name=f"{self.name}_{name}") for name in ("now", "seen"))
        self.words = [self.seen]
        m.d.sync += self.seen.eq(self.seen & ~Mux(self.en, lite.w_data & self.mask, 0) | self.now)

    def on(self, **causes: ValueLike) -> None:
        """Sets fields in the cycles in which their causes are high."""
        self._assign(self.now, causes)


KINDS = {Access.READ: _Readable, Access.WRITE: _Command, Access.BOTH: _Mode, Access.CLEAR: _Sticky}


def _near(name: str, names: Iterable[str]) -> str:
    return "".join(f"; do you mean {near.upper()}?" for near in get_close_matches(name, names, 1))
