"""Judges mutants: a bench must notice each, or it must be proven to change nothing.

A mutant is killed when the beats that leave differ from the integer model's, or leave in other cycles than the schedule says,
at full speed; or differ under stalls, in their cycles too, or after a reset; or when the design stops. One that survives gets
many more sequences. Of those that survive these, a proof is tried that they behave the same for any input: first of the module
that was changed, with free inputs, then of the modules around it. Streams are the same that carry the same beats in the same
cycles.
"""

import re
import time
from collections import Counter
from dataclasses import dataclass

import numpy as np
from amaranth.lib.wiring import Component

from emamba.base.errors import Mismatch, SimulationStopped
from rtl.kit import packing
from sim.native import NativeSimulation

from .equality import BUILD
from .miter import same
from .mutants import Mutants, mutated
from .targets import Target, target

MORE, FEW = 60_000, 24
"""Sequences for those that survive at first, for wrong values that few inputs show; and under stalls and resets."""

_FED = "the bench feeds every code in every lane, and the answers are those of the design"
_DECAY = "of all products δ·A that this lane can get, none has another Ā"
EQUAL: dict[str, dict[str, str]] = {
    "scan": {
        "inv top.block.state_1 offset_1 mux#43201f94 A[3]": _DECAY,
        "inv top.block.state_2 rounded add#87b91bdc B[2]": _DECAY,
    },
}
"""By block, mutants that PDR does not decide and that change nothing that can be seen, and why."""


@dataclass
class Score:
    """`kills` by what noticed; `proven` equal by PDR; `explained` to be equal, with the reason; and what is left."""

    mutants: int
    killed: int
    proven: int
    explained: dict[str, str]
    alive: list[str]
    seconds: float
    kills: dict[str, int]


def score(name: str, count: int, seed: int = 1, seconds: int = 20) -> Score:
    """Of `count` mutants; a proof of equality may take `seconds`."""
    start = time.perf_counter()
    case = target(name)
    made = mutated(case.component, count, seed)
    simulation = NativeSimulation(case.component, BUILD, fast=False, verilog=made.verilog, options=("-Wno-fatal",))
    bench = _bench(simulation, case)
    if reason := bench(0):
        raise Mismatch(f"{name}: the design itself fails its bench: {reason}")
    reasons = {k: bench(k) for k in range(1, len(made.kinds) + 1)}
    if not all(reasons.values()):
        longer = _bench(simulation, target(name, MORE))
        reasons |= {k: longer(k) for k, reason in reasons.items() if not reason}
    survivors = [k for k, reason in reasons.items() if not reason]
    reason_of = EQUAL.get(name, {}) | {text: _FED for text in made.data if case.exhausted}
    reason_of = {text: reason for text, reason in reason_of.items() if made.names.count(text) == 1}
    explained = {text: reason_of[text] for k in survivors if (text := made.names[k - 1]) in reason_of}
    left = [k for k in survivors if made.names[k - 1] not in explained]
    alive = [made.names[k - 1] for k in left if not _equal(made, case.component, k, seconds)]
    return Score(
        len(made.kinds),
        len(made.kinds) - len(survivors),
        len(left) - len(alive),
        explained,
        alive,
        round(time.perf_counter() - start, 1),
        dict(Counter(reason for reason in reasons.values() if reason)),
    )


def _equal(made: Mutants, component: Component, strap: int, seconds: int) -> bool:
    """Whether a proof is found, from the changed module outwards; of each as it is, and with its products free."""
    module = re.search(r"-module (\S+)", made.kinds[strap - 1])[1]
    while module != "top":
        if any(same(made, strap, module, seconds, free=free) for free in (False, True)):
            return True
        module = module.rpartition(".")[0]
    return any(same(made, strap, module, seconds, free=free, component=component) for free in (False, True))


def _bench(simulation: NativeSimulation, case: Target):
    port = simulation.o
    words = packing.pack(simulation.i, case.tokens)
    expected = packing.pack(port, case.expected)
    mask = np.tile(packing.mask(port), (len(expected) // port.beats, 1))
    beats, answers = len(words) // len(case.tokens), len(expected) // len(case.tokens)  # of a sequence
    few = min(FEW, len(case.tokens))
    some = words[-few * beats:]

    def right(output: np.ndarray, sequences: int) -> bool:
        """Whether it is the answer to the last `sequences`."""
        last = sequences * answers
        return len(output) == last and not ((output ^ expected[-last:]) & mask[-last:]).any()

    def stalled(strap: int, seed: int, source: int, sink: int):
        return simulation.run(some, seed, source, sink_percent=sink, strap=strap, idle_cycles=case.idle_cycles)

    waits = list(enumerate(((60, 60), (25, 25), (85, 85), (0, 90), (90, 0))))
    usual = [stalled(0, seed, *rates).output_cycles for seed, rates in waits]

    def judge(strap: int) -> str:
        """Which check fails, or nothing."""
        settings = {"strap": strap, "idle_cycles": case.idle_cycles}
        try:
            plain = simulation.run(words, **settings)
            if not right(plain.output, len(case.tokens)):
                return "value"
            if case.cycles is not None and not np.array_equal(plain.output_cycles, case.cycles):
                return "cycle"
            for (seed, rates), wanted in zip(waits, usual, strict=True):
                found = stalled(strap, seed, *rates)
                if not right(found.output, few) or not np.array_equal(found.output_cycles, wanted):
                    return "stalls"
            for cycle in range(3, 4 * beats, max(1, beats // 3)):
                after = simulation.run(some, cycle, 0, sink_percent=70, reset_at=cycle, resume_beat=few // 2 * beats, **settings)
                if not right(after.output, few - few // 2):
                    return "reset"
        except SimulationStopped as error:
            return error.kind
        return ""

    return judge
