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

    `connect`, called last, makes the hardware.
    """

    def __init__(self, lite: AxiLite, capabilities: Collection[str] = ()):
        self._lite, self._capabilities = lite, capabilities
        self._registers = {entry.name.lower(): KINDS[entry.access](entry, lite) for entry in REGISTERS}

    def __getattr__(self, name: str) -> "_Register":
        if name not in self._registers:
            raise AttributeError(f"there is no register {name.upper()}{_near(name, self._registers)}")
        return self._registers[name]

    def connect(self, m: Module) -> None:
        """Makes the registers; an access to any other address is an error.

        Raises
        ------
        Mismatch
            for what is not bound, unless the table names a capability for it that the design lacks
        """
        lite, registers = self._lite, self._registers.values()
        outside, clear = Signal(), self.command.clear_counters
        self.errors.on(address=outside)
        if unbound := [name for register in registers for name in register.unbound(self._capabilities)]:
            raise Mismatch(f"nothing in the design binds {', '.join(unbound)}; bind it, or let it need a capability in "
                              "rtl/system/registers.py")
        m.d.comb += [lite.w_error.eq(1), lite.r_error.eq(1), outside.eq(lite.w_en & lite.w_error | lite.r_en & lite.r_error)]
        for register in registers:
            if register.bound:
                register.connect(m, clear)
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

    def __init__(self, entry: Register, lite: AxiLite):
        self.entry, self.lite, self.name = entry, lite, entry.name.lower()
        self.entries = {field.name.lower(): field for field in entry.fields}
        self.used: set[str] = set()
        self.fields: dict[str, ValueLike] = {}
        self.words: list[ValueLike] = []

    def __getattr__(self, name: str):
        raise AttributeError(f"the register {self.entry.name} ({self.entry.access.value}) has no {name.upper()}"
                             f"{_near(name, self.entries)}")

    @property
    def read(self) -> Value:
        """High for a cycle as the first word is read."""
        return self.lite.r_en & (self.lite.r_address == self.entry.offset >> 2)

    @property
    def bound(self) -> bool:
        return bool(self.used or self.fields)

    def unbound(self, capabilities: Collection[str]) -> list[str]:
        """The names of what is not bound and must be in a design with `capabilities`."""
        def needed(part: Register | Field) -> bool:
            return part.capability in ("", *capabilities)

        if self.uses <= self.used or not needed(self.entry):
            return []
        missing = [f"{self.entry.name}.{field.name}" for name, field in self.entries.items()
                   if name not in self.fields and needed(field)]
        return missing if self.entries else [self.entry.name]

    def connect(self, m: Module, clear: Value) -> None:
        """Makes the hardware; `clear` sets counters to 0."""
        raise NotImplementedError

    def _bind(self, fields: dict[str, ValueLike]) -> None:
        for name in fields:
            if name not in self.entries:
                raise AttributeError(f"the register {self.entry.name} has no field {name.upper()}{_near(name, self.entries)}")
            if name in self.fields:
                raise Mismatch(f"{self.entry.name}.{name.upper()} is bound twice")
        self.fields |= fields

    def _place(self, m: Module, word: Signal) -> None:
        """Assigns the fields' values to their bits."""
        for name, value in self.fields.items():
            field = self.entries[name]
            m.d.comb += word[field.low:field.low + field.width].eq(value)


class _Readable(_Register):
    def __init__(self, entry: Register, lite: AxiLite):
        super().__init__(entry, lite)
        self.counters: list[tuple[Signal, ValueLike]] = []

    def reads(self, *words: ValueLike, **fields: ValueLike) -> None:
        """Gives the next words, or fields, their values."""
        self._bind(fields)
        self.used |= {"read"} if words else set()
        self.words += words
        if len(self.words) > self.entry.count:
            raise Mismatch(f"the register {self.entry.name} has {self.entry.count} words and gets {len(self.words)} values")

    def count(self, event: ValueLike) -> Signal:
        """Makes the next word a counter of the cycles in which `event` is high, until COMMAND.CLEAR_COUNTERS."""
        count = Signal(32, name=self.name)
        self.reads(count)
        self.counters.append((count, event))
        return count

    def connect(self, m: Module, clear: Value) -> None:
        for count, event in self.counters:
            with m.If(clear):
                m.d.sync += count.eq(0)
            with m.Elif(event):
                m.d.sync += count.eq(count + 1)
        if self.fields:
            self.words = [Signal(32, name=self.name)]
            self._place(m, self.words[0])


class _Written(_Register):
    """`en` is high for a cycle as the register is written."""

    def __init__(self, entry: Register, lite: AxiLite):
        super().__init__(entry, lite)
        self.en = Signal(name=f"write_{self.name}")
        self.mask = Cat(bit.replicate(8) for bit in lite.w_strobe)

    def connect(self, m: Module, clear: Value) -> None:
        m.d.comb += self.en.eq(self.lite.w_en & (self.lite.w_address == self.entry.offset >> 2))


class _Command(_Written):
    uses = frozenset({"write"})

    @property
    def written(self) -> tuple[Value, Signal]:
        """The word that is written, and high for a cycle as it is."""
        self.used |= {"write"}
        return self.lite.w_data, self.en

    def __getattr__(self, name: str) -> Value:
        if name not in self.entries:
            return super().__getattr__(name)
        self.fields[name] = self._field(self.entries[name])
        return self.fields[name]

    def _field(self, field: Field) -> Value:
        return self.en & self.lite.w_data[field.low] & self.lite.w_strobe[field.low // 8]


class _Mode(_Command):
    uses = frozenset({"read", "write"})

    def __init__(self, entry: Register, lite: AxiLite):
        super().__init__(entry, lite)
        self.store = Signal(32, name=self.name, init=entry.reset)

    def hold(self) -> Signal:
        """Keeps what is written, and returns it."""
        self.used |= self.uses
        return self.store

    def reads(self, word: ValueLike) -> None:
        """Gives the register another value than what was written."""
        self.used |= {"read"}
        self.words = [word]

    def _field(self, field: Field) -> Value:
        return self.store[field.low:field.low + field.width]

    def connect(self, m: Module, clear: Value) -> None:
        super().connect(m, clear)
        if not self.words:
            self.words = [self.store]
            meant = sum(field.mask for field in self.entry.fields)
            with m.If(self.en):
                m.d.sync += self.store.eq((self.lite.w_data & self.mask | self.store & ~self.mask) & meant)


class _Sticky(_Written):
    """`now` holds the causes of this cycle, `seen` those since it was cleared."""

    def __init__(self, entry: Register, lite: AxiLite):
        super().__init__(entry, lite)
        self.now, self.seen = (Signal(32, name=f"{self.name}_{name}") for name in ("now", "seen"))
        self.words = [self.seen]

    def on(self, **causes: ValueLike) -> None:
        """Sets fields in the cycles in which their causes are high."""
        self._bind(causes)

    def connect(self, m: Module, clear: Value) -> None:
        super().connect(m, clear)
        self._place(m, self.now)
        m.d.sync += self.seen.eq(self.seen & ~Mux(self.en, self.lite.w_data & self.mask, 0) | self.now)


KINDS = {Access.READ: _Readable, Access.WRITE: _Command, Access.BOTH: _Mode, Access.CLEAR: _Sticky}


def _near(name: str, names: Iterable[str]) -> str:
    return "".join(f"; do you mean {near.upper()}?" for near in get_close_matches(name, names, 1))
