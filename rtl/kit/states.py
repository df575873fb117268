"""The recurrent state seen from outside, between two packets: what scans and convolutions keep, as words of 32 bits.

A row of a state memory is columns of 32 bits, as many as the next power of two; the memories lie by falling size, each at a
multiple of its size rounded up to a power of two. What lies between reads as 0.
"""

from amaranth.hdl import Array, Module, Signal, Value

from .parity import decode, encode

WORD = 32


class StateWindow:
    """One memory of `rows` rows of `bits`, in a component that calls `connect`."""

    def __init__(self, name: str, rows: int, bits: int):
        self.rows, self.bits = rows, bits
        self.columns = -(-bits // WORD)
        self.active, self.write = Signal(name=f"{name}_active"), Signal(name=f"{name}_write")
        self.row, self.column = Signal(range(rows), name=f"{name}_row"), Signal(range(self.columns), name=f"{name}_column")
        self.given, self.data = Signal(WORD, name=f"{name}_given"), Signal(WORD, name=f"{name}_data")

    def connect(self, m: Module, value: Value) -> Value:
        """Shows the row `value`; returns it with the column given in its place."""
        words = [value[low:low + WORD] for low in range(0, self.bits, WORD)]
        updated = Signal(self.bits, name="updated")
        m.d.comb += [self.data.eq(Array(words)[self.column]), updated.eq(value)]
        with m.Switch(self.column):
            for k in range(self.columns):
                with m.Case(k):
                    m.d.comb += updated[k * WORD:(k + 1) * WORD].eq(self.given)
        return updated

    def connect_memory(self, m: Module, read, write) -> None:
        """The same by the ports of a memory, which are its own while the window is open."""
        parity = len(read.data) > self.bits
        updated = self.connect(m, decode(read.data, parity))
        with m.If(self.active):
            m.d.comb += [read.addr.eq(self.row), write.addr.eq(self.row), write.en.eq(self.write),
                         write.data.eq(encode(updated, parity))]

    def connect_ram(self, m: Module, ram) -> None:
        """The same by a `rtl.kit.shared.Ram`."""
        updated = self.connect(m, ram.read_data)
        with m.If(self.active):
            m.d.comb += [ram.read_addr.eq(self.row), ram.write_addr.eq(self.row), ram.write_data.eq(updated),
                         ram.write_en.eq(self.write.replicate(ram.lanes))]

    @property
    def place(self) -> tuple[int, int]:
        """Address bits of a column and of a row."""
        return (self.columns - 1).bit_length(), (self.rows - 1).bit_length()


class States:
    """The windows of a design. `address` counts words; `active` opens them, `write` stores `given`, `data` shows."""

    def __init__(self, windows: list[StateWindow]):
        self.placed, base = [], 0
        for window in sorted(windows, key=lambda window: -sum(window.place)):
            self.placed.append((base, window))
            base += 1 << sum(window.place)
        self.words = base

    def connect(self, m: Module, active, write, address: Signal, given: Value) -> Value:
        """Returns the word at the address."""
        data = Signal(WORD, name="state_data")
        for base, window in self.placed:
            column, row = window.place
            chosen = active & (address[column + row:] == base >> column + row)
            inside = (address[:column] < window.columns) & (address[column:column + row] < window.rows)
            m.d.comb += [
                window.active.eq(active), window.write.eq(chosen & inside & write), window.given.eq(given),
                window.column.eq(address[:column]), window.row.eq(address[column:column + row]),
            ]
            with m.If(chosen & inside):
                m.d.comb += data.eq(window.data)
        return data
