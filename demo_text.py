"""Text that the hardware's simulation writes, character by character: its state stays in the design from each to the next."""

import argparse
import sys
from itertools import islice
from pathlib import Path

import numpy as np

from boards.describe import describe, golden_frames
from boards.driver.accelerator import Accelerator
from emamba.artifact import load, of_length
from emamba.base.door import guarded
from emamba.base.errors import InputError, Mismatch
from emamba.base.options import at_least, check, real
from emamba.datasets import shakespeare
from emamba.run.integer import IntegerModel
from emamba.run.text import continued
from rtl.engine.machine import Machine
from rtl.engine.schedule import EngineSchedule
from rtl.system.system import Options, System
from sim.native_system import NativeTransport

Array = np.ndarray

ARTIFACT = Path("models/shakespeare")
PROMPT = "JULIET:\n"
CHARACTERS, TEMPERATURE = 200, 0.6
LANES = 64
TIMEOUT = 16
"""Times of a token after which the driver gives up."""


class Writers:
    """Hardware, asked by the driver, and integer model, side by side: one whose answers differ is refused. `tokens` were read."""

    def __init__(self, driver: Accelerator, model: IntegerModel):
        self.driver, self.model = driver, model
        self.state: dict[str, Array] | None = None
        self.tokens = 0

    def follow(self, ids: Array) -> Array:
        """Logits after token ids."""
        found = self.driver.run(ids[:, None, None])[:, 0]
        expected, self.state = self.model.resume(ids[None, :, None], self.state)
        self.tokens += len(ids)
        if different := int((found != expected[0]).sum()):
            raise Mismatch(f"hardware and integer model differ in {different} of {found.size} logits up to character "
                           f"{self.tokens}")
        return self.model.artifact.codec.decode(found[-1:], self.model.artifact.output)[0]


def write(options: argparse.Namespace) -> None:
    artifact = of_length(load(options.artifact), 1, carried=True)
    if artifact.config.vocabulary != len(shakespeare.CHARACTERS):
        raise InputError(f"{options.artifact} reads {artifact.config.vocabulary} token ids, not the "
                         f"{len(shakespeare.CHARACTERS)} characters of Shakespeare: give an artifact of that data set")
    ids = shakespeare.encode(options.prompt.encode(), "--prompt")
    if not len(ids):
        raise InputError("--prompt is empty: give a character at least, such as a line break")
    schedule = EngineSchedule(artifact, Machine(options.lanes))
    print(f"{artifact.name} on an engine of {options.lanes} lanes, {schedule.cycles_per_frame:,} cycles a character; building "
          "its simulation (minutes the first time)", flush=True)
    system = System(schedule, Options(counters=False, stateful=True), artifact)
    with NativeTransport(system, None, cycles=TIMEOUT * schedule.cycles_per_frame) as transport:
        writers = Writers(Accelerator(describe(system, golden_frames(artifact)), transport), IntegerModel(artifact))
        print(f"\n{options.prompt}", end="", flush=True)
        tokens = continued(writers.follow, ids, options.temperature, options.seed)
        for token in islice(tokens, options.characters):
            print(shakespeare.decode([token]), end="", flush=True)
        cycles = set(np.diff(transport.cycles_of[:len(ids)]).tolist())
    if cycles - {schedule.cycles_per_frame}:
        raise Mismatch(f"a character takes {sorted(cycles)} cycles in the simulation, {schedule.cycles_per_frame} in the "
                       "schedule")
    print(f"\n\n{writers.tokens} characters read, {writers.tokens * artifact.graph.output.width:,} logits equal to the integer "
          "model's, bit for bit")


def main(words: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="demo_text.py", description=__doc__)
    parser.add_argument("--prompt", default=PROMPT, metavar="TEXT", help="what the text goes on from (default: %(default)r)")
    parser.add_argument("--characters", **at_least(1), default=CHARACTERS, metavar="N", help="to write (default: %(default)s)")
    parser.add_argument("--temperature", **real(least=0), default=TEMPERATURE, metavar="T",
                        help="0: the likeliest character each time; else drawn (default: %(default)s)")
    parser.add_argument("--seed", **at_least(0), default=0, metavar="S", help="of the draws (default: %(default)s)")
    parser.add_argument("--lanes", **at_least(1), default=LANES, metavar="L", help="multipliers (default: %(default)s)")
    parser.add_argument("--artifact", type=Path, default=ARTIFACT, metavar="DIR", help="(default: %(default)s)")
    write(check(parser.parse_args(words)))


if __name__ == "__main__":
    sys.exit(guarded("demo_text", main))
