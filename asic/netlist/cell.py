"""A cell of a library: what it does, how large it is, and what it takes."""

import re
from collections import Counter
from collections.abc import Iterator
from functools import cached_property

import numpy as np

from emamba.base.errors import InputError

from .functions import NAME, evaluate, expression
from .liberty import Group


class Cell:
    """A cell: `area` in µm², `functions` of its outputs as expressions of Verilog and C (~ & | ^), and tables of energy."""

    def __init__(self, group: Group, library):
        self.group, self.library, self.name = group, library, group.arguments[0]
        self.area, self.delays, self.macro = float(group.get("area", "0")), {}, None
        bits = (pin for bus in group.all("bus") for pin in self._bits(bus))
        self.pins = {pin.arguments[0]: pin for pin in (*group.all("pin"), *bits)}
        self.inputs = [name for name, pin in self.pins.items() if pin.get("direction") == "input"]
        self.outputs = [name for name, pin in self.pins.items() if pin.get("direction") == "output"]
        for name in (self.name, *(pin.split("[")[0] for pin in self.pins)):
            if not NAME.fullmatch(name):
                raise InputError(f"cell {self.name!r}: {name!r} is no name of letters, digits and _; drop it in the PDK's "
                                 "description")

    def _bits(self, bus: Group) -> list[Group]:
        """A pin for every bit of a bus, the lowest first, with what the bus says of all of them."""
        width = next(of.get("bit_width") for of in self.library.header.all("type") if of.arguments[0] == bus.get("bus_type"))
        shared = [pin for pin in bus.all("pin") if ":" in pin.arguments[0]]
        bits = []
        for name in (f"{bus.arguments[0]}[{k}]" for k in range(int(width))):
            own = [pin for pin in bus.all("pin") if pin.arguments[0] == name]
            bits.append(Group("pin", [name], [item for of in (*own, *shared, bus) for item in of.attributes],
                              [group for of in (*own, *shared, bus) for group in of.groups if group.kind != "pin"]))
        return bits

    @property
    def ports(self) -> list[tuple[str, str, int]]:
        """Direction, name and bits of every port, inputs first; a bus is one."""
        bits = Counter(pin.split("[")[0] for pin in (*self.inputs, *self.outputs))
        inputs = {pin.split("[")[0] for pin in self.inputs}
        return [("input" if name in inputs else "output", name, count) for name, count in bits.items()]

    @cached_property
    def state(self) -> Group | None:
        """The group `ff` or `latch`."""
        return next((group for group in self.group.groups if group.kind in ("ff", "latch")), None)

    @property
    def gates_clock(self) -> bool:
        return str(self.group.get("clock_gating_integrated_cell", "")).startswith("latch_posedge")

    @property
    def kind(self) -> str:
        """gate, ff, latch, clock_gate, or macro; else other."""
        if self.macro:
            return "macro"
        if self.gates_clock:
            return "clock_gate"
        if self.state:
            return self.state.kind
        functions = all(self.pins[pin].get("function") for pin in self.outputs)
        return "gate" if self.outputs and functions and not self.group.all("statetable") else "other"

    def role(self, role: str) -> str | None:
        """The pin of a clock gate that has `clock_gate_{role}_pin`."""
        return next((name for name, pin in self.pins.items() if pin.get(f"clock_gate_{role}_pin") == "true"), None)

    @cached_property
    def clock_pin(self) -> str | None:
        """The input that clocks a flip-flop or clock gate, or opens a latch."""
        if self.kind == "clock_gate":
            return self.role("clock")
        if self.kind in ("ff", "latch"):
            text = self.expression(self.state.get("clocked_on" if self.kind == "ff" else "enable"))
            if text not in self.inputs:
                raise InputError(f"cell {self.name}: its clock is '{text}', which is no input; drop it in the PDK's description")
            return text
        return None

    @property
    def inverts(self) -> bool:
        """Whether it is an inverter."""
        return self._gives(1, 0)

    @property
    def buffers(self) -> bool:
        """Whether it is a buffer."""
        return self._gives(0, 1)

    def _gives(self, *values: int) -> bool:
        """Whether it is a gate of one input, which gives these for 0 and 1."""
        return (self.kind == "gate" and len(self.inputs) == len(self.outputs) == 1
                and all(evaluate(self.function(self.outputs[0]), {self.inputs[0]: x}) == value for x, value in enumerate(values)))

    @property
    def clock_pins(self) -> list[str]:
        """The inputs that a clock net ends at."""
        if self.macro:
            return [self.macro.write.clock, self.macro.read.clock]
        return [self.clock_pin] if self.clock_pin else []

    @property
    def plain(self) -> bool:
        """Whether it is a latch of its inputs D and enable alone, which gives out what it holds; or no latch."""
        state = self.state
        return self.kind != "latch" or (len(self.inputs) == 2 and state.get("data_in") in self.inputs
                                        and state.get("enable") in self.inputs
                                        and all(self.pins[pin].get("function") == state.arguments[0] for pin in self.outputs))

    def expression(self, text: str | list[str] | None) -> str:
        where = f"cell {self.name} of {self.library.name}"
        if not isinstance(text, str):
            raise InputError(f"{where} lacks a function; drop it in the PDK's description")
        found = expression(text, where)
        known = {*self.pins, "ZERO", *(name.strip() for name in (self.state.arguments if self.state else ()))}
        if unknown := sorted(set(NAME.findall(found)) - known):
            raise InputError(f"{where}: the function '{text}' is of {unknown[0]}, which is no pin; drop the cell in the PDK's "
                             "description")
        return found

    def function(self, pin: str) -> str:
        """The function of an output: of the inputs, or of the names of the variables in `state`."""
        return self.expression(self.pins[pin].get("function"))

    def capacitance(self, pin: str) -> float:
        """The capacitance in F of an input and of the wire to it."""
        return float(self.pins[pin].get("capacitance", "0")) * self.library.farads + self.library.wire

    @cached_property
    def leakage(self) -> float:
        """W, the mean over the conditions that the library gives."""
        found = self.group.get("cell_leakage_power")
        if found is None:
            groups = [g for g in self.group.all("leakage_power") if from_supply(g)]
            whole = [g for g in groups if not g.get("when")]
            found = np.mean([float(g.get("value")) for g in whole or groups] or [0])
        return float(found) * self.library.watts

    def output_energy(self, pin: str) -> tuple[np.ndarray, np.ndarray]:
        """Internal energy in J of a transition of output `pin` over loads in F, at the library's typical input slew: the mean of
        rise and fall and over the inputs that may cause it."""
        curves = [curve for group in self.pins[pin].all("internal_power") if from_supply(group) for curve in self._curves(group)]
        if not curves:
            return np.array([0.0, 1.0]), np.zeros(2)
        loads = max((curve[0] for curve in curves), key=len)
        return loads, np.mean([np.interp(loads, *curve) for curve in curves], axis=0)

    def input_energy(self, pin: str) -> float:
        """Internal energy in J of a transition of input `pin` that changes no output: the mean of rise and fall and over the
        conditions."""
        found = [energy[0] for group in self.pins[pin].all("internal_power") if from_supply(group)
                 for _, energy in self._curves(group)]
        return float(np.mean(found)) if found else 0.0

    def cycle_energy(self, port: dict, active: bool) -> float:
        """Internal energy in J of a cycle of a macro's port whose enables are high, or low."""
        high = {*self.macro.high, *(port.enable if active else [])}
        values = {pin: int(pin in high) for pin in self.inputs} | {"ZERO": 0}
        return float(sum(energy[0] for group in self.pins[port.clock].all("internal_power")
                         if from_supply(group) and evaluate(self.expression(group.get("when", "1")), values)
                         for _, energy in self._curves(group)))

    def delay(self, pin: str, load: float) -> float:
        """s from an input or the clock to output `pin` at a load in F and the library's typical slew: the slowest arc."""
        if pin not in self.delays:
            curves = [self.library.at_slew(table, self.library.seconds) for group in self.pins[pin].all("timing")
                      for table in group.groups if table.kind in ("cell_rise", "cell_fall")]
            loads = max((curve[0] for curve in curves), key=len, default=np.zeros(1))
            self.delays[pin] = loads, np.max([np.interp(loads, *curve) for curve in curves], axis=0) if curves else loads * 0
        loads, seconds = self.delays[pin]
        if len(loads) > 1 and load > loads[-1]:
            return float(seconds[-1] + (load - loads[-1]) * (seconds[-1] - seconds[-2]) / (loads[-1] - loads[-2]))
        return float(np.interp(load, loads, seconds))

    def _curves(self, group: Group) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for table in group.groups:
            if table.kind in ("rise_power", "fall_power", "power"):
                yield self.library.at_slew(table, self.library.joules)


def from_supply(group: Group) -> bool:
    """Whether a group is of the supply's rail: energy is counted once, where it leaves the supply."""
    return not re.search("VSS|GND|VPW|VNW", str(group.get("related_pg_pin", "")))
