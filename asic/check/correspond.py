"""Matches the registers of a netlist with its RTL's by what they do."""

import re
from collections import defaultdict
from itertools import combinations

import numpy as np

from emamba.base.errors import Mismatch

from .and_graph import Bit, Graph, Simulation
from .machine import Machine


def classes(graph: Graph, inputs: list[int], states: list[int], nexts: list[int], known: list[int],
            constant: dict[int, int]) -> tuple[list[int], dict[int, int]]:
    """Returns classes of registers that stay equal if they are equal, and which of them stay 0, or 1 (−1).

    Partition refinement: the classes begin as `known` with the constants, and split until equal states have equal next states.
    A class that does not stay 0 is tried as 1, and then as no constant.
    """
    simulation = Simulation(graph)
    simulation.set(inputs, simulation.noise(len(inputs)))
    found, count = known, max(*known, *constant, 0) + 1
    while True:
        values = simulation.noise(count)
        for key, value in constant.items():
            values[key] = value
        simulation.set(states, values[found])
        simulation.run()
        numbers, still = {}, {}
        new = [numbers.setdefault((old, row.tobytes()), len(numbers))
               for old, row in zip(found, simulation.of(nexts), strict=True)]
        for (old, row), number in numbers.items():
            value = constant.get(old)
            if value is not None:
                stays = row == bytes([value & 255]) * len(row)
                if stays or value == 0:
                    still[number] = value if stays else -1
        if len(numbers) == count and sorted(still.values()) == sorted(constant.values()):
            return new, still
        found, constant, count = new, still, len(numbers)


def correspond(graph: Graph, free: dict[str, Bit], gate: Machine, rtl: Machine, seeds: dict[str, str]
               ) -> tuple[list[tuple[str, int]], dict[str, str]]:
    """Returns, by the RTL's names, the functions that must be 0 (an output or a next state differs), and the netlist's registers.

    The RTL's registers are replaced by the netlist's. `seeds` are register matches that are known before.
    """
    for what, ours, theirs in (("ports", set(gate.outputs), set(rtl.outputs)),
                               ("parts", set(gate.within.items()), set(rtl.within.items()))):
        if ours != theirs:
            raise Mismatch(f"the netlist has other {what} than the RTL: {min(ours ^ theirs)}")
    match, constant = _match(graph, [bit.literal for bit in free.values()], gate, rtl, seeds)
    moved = {rtl.states[name]: literal for name, literal in constant.items()}
    moved |= {rtl.states[name]: gate.states[own] for name, own in match.items()}
    still = {state for state, following in ((rtl.states[name], rtl.nexts[name]) for name in constant)
             if graph.replace([following], moved | {state: state}) == [state]}
    constant = {name: literal for name, literal in constant.items() if rtl.states[name] not in still}
    names = [*rtl.outputs, *(rtl.names[name][0] for name in (*match, *constant))]
    ours = [*(gate.outputs[name] for name in rtl.outputs), *(gate.nexts[own] for own in match.values()), *constant.values()]
    theirs = [*rtl.outputs.values(), *(rtl.nexts[name] for name in (*match, *constant))]
    differs = [Bit(graph, 1)] * len(names)
    for value in (0, 1):
        literals = graph.replace(theirs, moved | dict.fromkeys([*still, free["x"].literal], value))
        differs = [either & (Bit(graph, a) ^ Bit(graph, b)) for either, a, b in zip(differs, ours, literals, strict=True)]
    return ([(name, bit.literal) for name, bit in zip(names, differs, strict=True)],
            {alias: own for name, own in match.items() for alias in rtl.names[name]})


def _match(graph: Graph, inputs: list[int], gate: Machine, rtl: Machine, seeds: dict[str, str]
           ) -> tuple[dict[str, str], dict[str, int]]:
    """Matches the RTL's registers with the netlist's, by name, and finds the constants of those that the netlist lacks."""
    ours, theirs = sorted(gate.states, key=_number), sorted(rtl.states, key=_number)
    match = {name: next(seeds[alias] for alias in rtl.names[name] if alias in seeds) for name in theirs
             if not seeds.keys().isdisjoint(rtl.names[name])}
    doubles, fixed = classes(graph, inputs, [rtl.states[name] for name in theirs], [rtl.nexts[name] for name in theirs],
                             [0] * len(theirs), {0: 0})
    choices, alike = defaultdict(list), []
    for name, key in zip(theirs, doubles, strict=True):
        if name in match and key not in fixed:
            choices[key].append(match[name])
    for name, key in zip(theirs, doubles, strict=True):
        if name not in match and choices[key]:
            match[name] = choices[key][0]
            alike.append(([name], choices[key]))
    numbers = {own: k for k, own in enumerate(dict.fromkeys(match.values()), 3)}
    guess = {name: 1 - fixed[key] for name, key in zip(theirs, doubles, strict=True) if key in fixed and seeds} | {
        name: numbers[own] for name, own in match.items()}
    found, fixed = classes(graph, inputs, [gate.states[name] for name in ours] + [rtl.states[name] for name in theirs],
                           [gate.nexts[name] for name in ours] + [rtl.nexts[name] for name in theirs],
                           [numbers.get(name, 0) for name in ours] + [guess.get(name, 0) for name in theirs], {0: 0, 1: 0, 2: -1})
    held, same = defaultdict(list), defaultdict(list)
    for name, key in zip(ours, found[:len(ours)], strict=True):
        held[key].append(name)
    for name, key in zip(theirs, found[len(ours):], strict=True):
        if name not in match:
            same[key].append(name)
    match |= {name: held[key][min(k, len(held[key]) - 1)] for key, names in same.items() if held[key]
              for k, name in enumerate(names)}
    constant = {name: -fixed[key] for key, names in same.items() if key in fixed and not held[key] for name in names}
    alike += [(names, held[key]) for key, names in same.items()]
    _settle(graph, inputs, gate, rtl, match, constant, [(names, others) for names, others in alike if len(others) > 1])
    return match, constant


def _number(name: str) -> int:
    """Yosys numbers registers in the order of their bits."""
    return int((re.findall(r"\d+", name) or ["0"])[-1])


def _settle(graph: Graph, inputs: list[int], gate: Machine, rtl: Machine, match: dict[str, str], constant: dict[str, int],
            alike: list[tuple[list[str], list[str]]]) -> None:
    """Chooses among equal registers of the netlist those with which the fewest simulated bits differ."""
    if not alike:
        return
    simulation = Simulation(graph)
    for literals in (inputs, [*gate.states.values()], [*rtl.states.values()]):
        simulation.set(literals, simulation.noise(len(literals)))
    simulation.set([rtl.states[name] for name in constant], simulation.of(list(constant.values())))

    def wrong(tried: dict[str, str]) -> int:
        simulation.set([rtl.states[name] for name in tried], simulation.of([gate.states[name] for name in tried.values()]))
        simulation.run()
        a = simulation.of([*(gate.outputs[name] for name in rtl.outputs), *(gate.nexts[name] for name in tried.values())])
        b = simulation.of([*rtl.outputs.values(), *(rtl.nexts[name] for name in tried)])
        return int(np.unpackbits((a ^ b).view(np.uint8)).sum())

    least, before = wrong(match), None
    while least and least != before:
        before = least
        changes = [{name: other} for names, others in alike for name in names for other in others]
        changes += [{one: match[other], other: match[one]} for names, _ in alike for one, other in combinations(names, 2)]
        for change in changes:
            if change.items() <= match.items():
                continue
            now = wrong(match | change)
            if now < least:
                least = now
                match |= change
