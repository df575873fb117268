"""Planted faults: one expression of the hardware's or the schedule's own source is replaced, and a named check must notice."""

import time
from collections.abc import Callable
from dataclasses import replace
from unittest import mock

from emamba.artifact import Artifact
from emamba.base.formats import IntFormat, Rounding
from emamba.piecewise import fit
from rtl.blocks.scan import Scan
from rtl.kit import datapath
from rtl.kit.datapath import Pipeline, requantize
from rtl.kit.pairs import products
from rtl.kit.streams import Fifo, Fork, Gearbox, Pacer
from rtl.system import state
from rtl.system.core import Core
from sim import cases
from sim.models import random_artifact

from . import certificate, depths, traffic
from .block_rules import rules
from .equality import PackedProduct, PiecewiseLinear, Requantizer
from .faults import undefined
from .plant import plant
from .prove import Bench, prove
from .stream_rules import FifoRules, ForkRules, GearboxRules, PacerRules
from .targets import TINY, TINY_SEED

I8 = IntFormat(8)


def _broken(bench: Bench) -> bool:
    return prove(bench).result == "broken"


def _segment_moved() -> Bench:
    segments = fit("silu", IntFormat(6, True, 4), IntFormat(6, True, 4), 5)
    knots = segments.knots.copy()
    knots[1] += 1
    return PiecewiseLinear(segments, replace(segments, knots=knots))


def _shallow(artifact: Artifact) -> bool:
    needs = Fifo.needs
    with mock.patch.object(Fifo, "needs", staticmethod(lambda pushes, pops: (max(1, needs(pushes, pops)[0] - 1), 0))):
        return depths.check(artifact, 20)["shallow"] > 0


def _certificate(artifact: Artifact) -> bool:
    op = artifact.operators["block0.y"]
    terms = certificate.certify
    with mock.patch.object(
        certificate,
        "certify",
        lambda op: replace(terms(op), bound=terms(op).bound - (1 << op.a_bar.frac), stored=terms(op).stored - 1),
    ):
        return not certificate.check(op)["holds"]


def _multiply_loses() -> bool:
    pipeline = plant(Pipeline, "s.ready.eq(self.advance & together)", "s.ready.eq(together)")
    with mock.patch("rtl.blocks.elementwise.Pipeline", pipeline):
        return _broken(rules(cases.BLOCKS["multiply-1-1"](), False))


def _scan_remembers() -> bool:
    with mock.patch.object(Scan, "_recurrence", plant(Scan._recurrence, "Mux(first, start, h)", "Mux(first, h, h)")):
        found = undefined(random_artifact(TINY, TINY_SEED), 2)
    return not found["right"]


def faults(artifact: Artifact) -> dict[str, tuple[str, Callable[[], bool]]]:
    """Fault -> the check that must catch it, and whether it does."""

    def fifo(old, new):
        return lambda: _broken(FifoRules(3, True, make=plant(Fifo, old, new)))

    def requantizer(old, new, rounding=Rounding.HALF_UP):
        return lambda: _broken(Requantizer(12, 3, rounding, I8, make=plant(requantize, old, new)))

    def rounding(old, new, kind=Rounding.HALF_UP):
        def found():
            with mock.patch.object(datapath, "rounding_sum", plant(datapath.rounding_sum, old, new)):
                return _broken(Requantizer(12, 3, kind, I8))
        return found

    def system(owner, function, old, new):
        return lambda: traffic.notices(owner, function, plant(getattr(owner, function), old, new))

    order, definition = "order proof of the", "proof of the requantizer"
    return {
        "lost beat: a full FIFO takes one": (f"{order} FIFO", fifo("self.i.ready.eq(~full)", "self.i.ready.eq(1)")),
        "lost beat: an output port of a fork waits for the other": (
            f"{order} fork",
            lambda: _broken(ForkRules(2, make=plant(Fork, "o.ready | taken[k]", "o.ready"))),
        ),
        "lost beat: a block takes one while its output waits": ("order proof of the block", _multiply_loses),
        "doubled beat: a fork offers a beat again": (
            f"{order} fork",
            lambda: _broken(ForkRules(2, make=plant(Fork, "self.i.valid & ~taken[k]", "self.i.valid"))),
        ),
        "stale state: a fork's flags outlive a reset": (
            f"{order} fork",
            lambda: _broken(ForkRules(2, make=plant(Fork, "Signal(self.outputs)", "Signal(self.outputs, reset_less=True)"))),
        ),
        "stale state: a gearbox's level outlives a reset": (
            f"{order} gearbox",
            lambda: _broken(
                GearboxRules(
                    5,
                    2,
                    3,
                    make=plant(
                        Gearbox,
                        "level = Signal(range(self.capacity + 1))",
                        "level = Signal(range(self.capacity + 1), reset_less=True)",
                    ),
                )
            ),
        ),
        "stale state: a scan goes on where the last sequence ended": ("Icarus, whole model", _scan_remembers),
        "unstable payload: a FIFO shows its input while it is not empty": (
            f"{order} FIFO",
            fifo("Mux(empty, self.i.payload.as_value(), word)", "self.i.payload.as_value()"),
        ),
        "wrong FIFO depth: pointers wrap one late": (f"{order} FIFO", fifo("pointer == self.depth - 1", "pointer == self.depth")),
        "wrong FIFO depth: full one late": (
            f"{order} FIFO",
            fifo("push & (level == self.depth - 1)", "push & (level == self.depth)"),
        ),
        "wrong FIFO depth: every FIFO of the schedule one less": ("stepping of the schedule", lambda: _shallow(artifact)),
        "early token: the pacer waits one cycle less": (
            f"{order} pacer",
            lambda: _broken(PacerRules(3, 5, make=plant(Pacer, "wait.eq(self.period - 1)", "wait.eq(self.period - 2)"))),
        ),
        "off-by-one segment: a knot one code later": ("proof of the piecewise-linear unit", lambda: _broken(_segment_moved())),
        "wrong rounding: half down": (
            definition,
            rounding("value + (1 << (shift - 1))", "value + (1 << (shift - 1)) - 1"),
        ),
        "wrong rounding: half even without the odd bit": (
            definition,
            rounding("value + ((1 << (shift - 1)) - 1) + value.shift_right(shift)[0]", "value + ((1 << (shift - 1)) - 1)",
                     Rounding.HALF_EVEN),
        ),
        "missing saturation: none": (definition, requantizer("if fits: pass", "if True: pass")),
        "missing saturation: one bit too few looked at": (
            definition,
            requantizer("magnitude[o.bits - o.signed:]", "magnitude[o.bits - o.signed + 1:]"),
        ),
        "wrong product: no borrow between packed products": (
            "proof of the packed multiplier",
            lambda: _broken(PackedProduct(4, make=plant(products, "product[field - 1]", "0"))),
        ),
        "lost packet: a word is taken in the cycle of a reset": (
            "random traffic",
            system(Core, "_streams", "reader.i.ready & ~reset", "reader.i.ready"),
        ),
        "stale result: it outlives an abandoned reset": (
            "random traffic",
            system(Core, "_streams", "ResetInserter(self.abandon)(PacketGuard(size))", "PacketGuard(size)"),
        ),
        "stale state: it reads as before after it was cleared": (
            "random traffic",
            system(state, "connect", "Mux(core.cleared, 0, data)", "data"),
        ),
        "stale state: a part of a state is taken for a whole one": (
            "random traffic",
            system(state, "connect", "given & open_ & whole & (address == states.words - 1)", "given & open_"),
        ),
        "stale state: a load that takes over keeps it": (
            "random traffic",
            system(Core, "_admit", "reset | self.takes_over", "reset"),
        ),
        "a bound of the state one step too low": ("certificate, case by case", lambda: _certificate(artifact)),
    }


def run(artifact: Artifact) -> list[dict]:
    rows = []
    for fault, (name, check) in faults(artifact).items():
        start = time.perf_counter()
        rows.append({"fault": fault, "check": name, "caught": bool(check()), "seconds": round(time.perf_counter() - start, 1)})
    return rows
