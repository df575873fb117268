"""A bench: a block, what goes in, what must come out, and when; run by `sim.cocotb_bench` or `sim.amaranth_bench`.

The bench of a `Block` needs only random tokens: `model` gives the answer, `schedule` the cycles. Several benches share one
simulation, since most of a small block's time goes to starting compilers and simulators.
"""

import json
import os
from dataclasses import dataclass
from fractions import Fraction
from functools import reduce
from pathlib import Path
from unittest import mock
from xml.etree import ElementTree

import numpy as np
from amaranth.hdl import DomainRenamer, Module
from amaranth.lib.wiring import Component, In
from cocotb_tools import config
from cocotb_tools.check_results import get_results
from cocotb_tools.runner import VerilatorControlFile, Verilog, get_runner

from emamba.base.errors import InputError, Mismatch, ToolFailed
from emamba.io import cache
from rtl.kit import packing
from rtl.kit.block import Port, Spec
from rtl.kit.emit import LINT, to_verilog

from . import tools

SETTLE = 64
STALLED = 2
"""Sequences that play under stalls and after a reset, of however many play at full speed: stalls change no values."""
VISIBLE = ("*__*", "*_clk", "*_rst")
VERILATOR = ["--no-public-flat-rw", "--output-split", "0", "-CFLAGS", "-O0"]


@dataclass
class Bench:
    """Beats as rows of words (`rtl.kit.packing`); `masks` are the bits compared; `cycles` of a port's transfers count from the
    first offered beat; `share` of the beats of every port play under stalls."""

    component: Component
    stimulus: dict[str, np.ndarray]
    expected: dict[str, np.ndarray]
    masks: dict[str, np.ndarray]
    cycles: dict[str, list[int] | None]
    seed: int = 0
    idle_cycles: int = 5000
    share: Fraction = Fraction(1)

    def run(self, name: str, simulators: tuple[str, ...], build_dir: Path, only: dict[str, str] | None = None) -> None:
        """Runs all tests on each simulator, of a simulator in `only` those that match; a failed one raises."""
        run_together(name, {name: self}, simulators, build_dir, only)

    @property
    def settle(self) -> int:
        """Cycles after the last expected beat in which a surplus beat would show: the longest wait for a beat, and some."""
        outputs = [self.cycles[name] for name in self.expected]
        waits = [max([cycles[0], *np.diff(cycles)]) if cycles else SETTLE for cycles in outputs]
        return min(SETTLE, 8 + int(max(waits, default=SETTLE)))

    def spec(self, name: str) -> dict:
        beats = sum(map(len, (*self.stimulus.values(), *self.expected.values())))
        longest = max((cycles[-1] for cycles in self.cycles.values() if cycles), default=0)
        return {
            "name": name,
            "inputs": {name: {"beats": _hex(words), "cycles": self.cycles.get(name)}
                       for name, words in self.stimulus.items()},
            "outputs": {name: {"beats": _hex(words), "masks": _hex(self.masks[name]), "cycles": self.cycles.get(name)}
                        for name, words in self.expected.items()},
            "stalled": {name: int(len(words) * self.share) for name, words in (*self.stimulus.items(), *self.expected.items())},
            "seed": self.seed,
            "idle_cycles": self.idle_cycles,
            "settle": self.settle,
            "timeout_cycles": self.idle_cycles + 20 * (beats + longest),
        }


class Together(Component):
    """Components side by side, each with a clock and a reset of its own: one that rests costs no time."""

    def __init__(self, parts: dict[str, Component]):
        self.parts = parts
        super().__init__({f"{name}_{port}": member for name, part in parts.items()
                          for port, member in part.signature.members.items()})

    def elaborate(self, platform):
        m = Module()
        for name, part in self.parts.items():
            m.submodules[name] = DomainRenamer(name)(part)
            for path, member, inner in part.signature.flatten(part):
                outer = reduce(lambda owner, key: owner[key] if isinstance(key, int) else getattr(owner, key), path[1:],
                               getattr(self, f"{name}_{path[0]}"))
                m.d.comb += inner.eq(outer) if member.flow is In else outer.eq(inner)
        return m


def run_together(name: str, benches: dict[str, Bench], simulators: tuple[str, ...], build_dir: Path,
                 only: dict[str, str] | None = None) -> None:
    """Runs all tests of all benches on each simulator, in folders of that name; a failed one raises.

    Parameters:
        name: of the folders, and in errors
        benches: by titles, which errors name
        simulators: `icarus`, `verilator`
        build_dir: where the folders are made
        only: by simulator, what the names of the tests must match; the others run all
    """
    cases = {f"b{k}": (title, bench) for k, (title, bench) in enumerate(benches.items())}
    verilog = to_verilog(Together({case: bench.component for case, (_, bench) in cases.items()}))
    spec = json.dumps({case: bench.spec(title) for case, (title, bench) in cases.items()})
    for simulator in simulators:
        folder = (build_dir / simulator / name).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "bench.json").write_text(spec)
        simulate(f"bench {name}", simulator, folder, verilog, "sim.cocotb_bench", visible=VISIBLE,
                 environment={"EMAMBA_BENCH": str(folder / "bench.json")}, seed=min(bench.seed for bench in benches.values()),
                 test_filter=(only or {}).get(simulator))


def simulate(what: str, simulator: str, folder: Path, verilog: str, module: str, *, visible: tuple[str, ...],
             environment: dict[str, str], seed: int, test_filter: str | None = None) -> None:
    """Runs the tests of a cocotb module on the module `top`, with its files in `folder`; a failed one raises, named as `what`.

    Only what matches `visible` is visible to cocotb: all signals visible, the runner's default, would double the compilation.
    """
    (folder / "top.v").write_text(verilog)
    names = "".join(f'public_flat_rw -module "top" -var "{name}"\n' for name in visible)
    (folder / "visible.vlt").write_text(f"`verilator_config\n{names}")
    results = folder / "results.xml"
    results.unlink(missing_ok=True)
    sources, arguments = [Verilog(folder / "top.v")], []
    if simulator == "verilator":
        sources, arguments = [VerilatorControlFile(LINT), VerilatorControlFile(folder / "visible.vlt"), *sources], VERILATOR
    log = folder / "build.log"
    libraries = {name: cache.plain(getattr(config, name)) for name in ("libs_dir", "share_dir")}
    with mock.patch.dict(os.environ, tools.environment(simulator) | environment), mock.patch.multiple(config, **libraries):
        try:
            runner = get_runner(simulator)
            runner.build(sources=sources, hdl_toplevel="top", build_dir=folder / "obj", build_args=arguments, always=True,
                         timescale=("1ns", "1ps"), log_file=log)
            log = folder / "test.log"
            runner.test(module, "top", hdl_toplevel_lang="verilog", build_dir=folder / "obj", test_dir=folder,
                        results_xml=str(results), seed=seed, log_file=log, test_filter=test_filter)
        except (RuntimeError, SystemExit):
            if not results.exists():
                raise ToolFailed(f"{what} does not run on {simulator}: {_last_line(log)} (see {log})") from None
    tests, failures = get_results(results)
    if failures or not tests:
        failure = next((f"{name}: {reason}" for name, reason in failed(results).items()), "no test ran")
        raise Mismatch(f"{what} on {simulator}: {failures} of {tests} tests failed; {failure} (see {log})")


def bench(component: Component | Spec, *tokens: np.ndarray, inputs: dict[str, Port] | None = None,
          outputs: dict[str, Port] | None = None, model=None, schedule=None) -> Bench:
    """The bench of a spec, or of any component of which ports, `model` and `schedule` are given.

    `tokens` are arrays [batch, L, width], in the order of the inputs. `model(*tokens)` returns the same for the output (all
    outputs alike); `schedule(*arrivals)` returns the cycles of the transfers of each input, or None, and of the outputs.
    `schedule=False` leaves the cycles open.
    """
    component = component.build() if isinstance(component, Spec) else component
    inputs, outputs = inputs or component.inputs, outputs or {"o": component.output}
    model = model or component.model
    schedule = component.schedule if schedule is None else schedule
    rng = np.random.default_rng(0)
    stimulus = {port: _noisy(inputs[port], array, rng) for port, array in zip(inputs, tokens, strict=True)}
    answer = model(*tokens)
    expected = {name: packing.pack(port, answer) for name, port in outputs.items()}
    masks = {name: np.tile(packing.mask(port), (len(expected[name]) // port.beats, 1)) for name, port in outputs.items()}
    *taken, departures = schedule(*([0] * len(words) for words in stimulus.values())) if schedule else [None] * (len(inputs) + 1)
    times = dict(zip(inputs, taken, strict=True)) | dict.fromkeys(outputs, departures)
    cycles = {name: None if given is None else [int(cycle) for cycle in given] for name, given in times.items()}
    for port, words in (stimulus | expected).items():
        if (given := cycles[port]) is not None and len(given) != len(words):
            raise InputError(f"the schedule gives {len(given)} transfers for the {len(words)} beats of {port}")
    return Bench(component, stimulus, expected, masks, cycles, share=Fraction(min(STALLED, len(answer)), len(answer)))


def random_tokens(port: Port, batch: int = 3, length: int = 4, seed: int = 0) -> np.ndarray:
    """Tokens [batch, L, width]: sequences of uniform values with extremes among them; the first tokens are min, max and 0."""
    rng = np.random.default_rng(seed)
    low, high = port.format.min, port.format.max
    tokens = rng.integers(low, high + 1, (batch, length, port.width))
    extremes = rng.choice([low, high, 0, min(1, high), max(-1, low)], tokens.shape)
    tokens = np.where(rng.random(tokens.shape) < 0.2, extremes, tokens)
    flat = tokens.reshape(-1, port.width)
    for k, value in enumerate((low, high, 0)):
        flat[k : k + 1] = value
    return tokens


def _noisy(port: Port, tokens: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Beats with noise in the lanes beyond the width."""
    words = packing.pack(port, tokens)
    used = np.tile(packing.mask(port), (len(words) // port.beats, 1))
    bits = packing.payload_bits(port)
    inside = packing.from_ints([(1 << bits) - 1], words.shape[1])
    return words | (rng.integers(0, 1 << 32, words.shape, dtype=np.uint32) & ~used & inside)


def _hex(words: np.ndarray) -> list[str]:
    return [f"{value:x}" for value in packing.to_ints(words)]


def _last_line(log: Path) -> str:
    lines = [line for line in log.read_text().splitlines() if line.strip()] if log.exists() else []
    errors = [line for line in lines if "rror" in line]
    return (errors or lines or ["no output"])[0 if errors else -1]


def failed(results: Path) -> dict[str, str]:
    """The reason of each test that failed, from its results.xml."""
    return {case.get("name"): (failure.get("message") or "no reason").splitlines()[0]
            for case in ElementTree.parse(results).getroot().iter("testcase") for failure in case.findall("failure")}
