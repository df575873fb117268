"""Random traffic on AXI systems of both bus widths, with results of one word and of several."""

from collections.abc import Callable
from unittest import mock

from sim.native_system import NativeTransport
from sim.traffic import Design, check_many

from .equality import BUILD

DESIGNS = {
    "32 bits, a result a token": {"bus_bits": 32, "pool": "none"},
    "32 bits, a result a packet": {"bus_bits": 32, "pool": "mean"},
    "64 bits, a result a token": {"bus_bits": 64, "pool": "none"},
    "64 bits, a result a packet": {"bus_bits": 64, "pool": "mean", "parity": True},
}
PLANTED = 20_000
"""Operations that are to notice a fault; a reset meets a packet's last word once in several thousand."""
CYCLES = 100_000
"""That stand for a second."""


def run(name: str, count: int, *, fast: bool = True) -> dict:
    """So many operations on a design; `unexpected` is the shortest failing sequence, or None."""
    design = Design.make(**DESIGNS[name])
    with NativeTransport(design.system, BUILD, cycles=CYCLES, fast=fast) as transport:
        failure = check_many(design, transport, count)
    return {"operations": count, "unexpected": None if failure is None else str(failure)}


def notices(owner: object, function: str, planted: Callable, name: str = "64 bits, a result a packet") -> bool:
    """Whether traffic notices a fault that is planted in a function of the system's modules or classes."""
    with mock.patch.object(owner, function, planted):
        return run(name, PLANTED, fast=False)["unexpected"] is not None
