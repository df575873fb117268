"""The driver on a system that `emamba build` wrote: on a board, or on its Verilog in a simulator."""

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np

from boards.driver.accelerator import Accelerator
from boards.driver.description import Description
from boards.driver.uio import UioTransport
from emamba.base.errors import DesignLimit, DeviceError, InputError
from emamba.datasets.tokens import patchify
from emamba.io.files import read_text
from sim.native_system import NativeTransport

PLACES = {"": ("accelerator.json", "top.v"), "system": ("host/accelerator.json", "emamba_system.v")}
"""Where targets put description and Verilog: the target axi, and the boards with Linux."""
CYCLES = 10_000_000
"""Of the simulation that stand for a second, the driver's time-out."""
LARGEST = 1 << 30
BUILD: dict = {"build_dir": None, "fast": True}
"""How the simulation is built: in the user's cache."""
BITS = re.compile(r"input \[(\d+):0\] s_axis_tdata;")


def drive(folder: Path, simulated: bool, batch: np.ndarray | None = None) -> tuple[dict, np.ndarray | None]:
    """Runs the golden frames, then a batch; what the driver tells, and the answers to the batch.

    Parameters: `folder` holds the files of the target; `simulated` takes their Verilog in place of the board; `batch`
    [n, L, input width], or images [n, height, width, channels] of a model that cuts them, is in the user's unit.
    """
    description, verilog = _found(folder)
    if batch is not None:
        if (cut := description.cut) and list(batch.shape[1:]) == cut["image"]:
            batch = patchify(batch, cut["patch"], cut["overlap"])
        description.check_shape(batch)
    with _simulated(folder, description, verilog) if simulated else _board() as transport:
        accelerator, clock = Accelerator(description, transport), getattr(transport, "clock", time.perf_counter)
        frames, expected = description.golden
        found: dict = {"model": description.name, "digest": description.digest, "on": "simulation" if simulated else "board",
                       "golden": accelerator.self_test()}
        if description.classes:
            found["golden_answers"] = description.named(expected)
        answers = None if batch is None else accelerator.predict(batch)
        many = frames[[k % len(frames) for k in range(max(16, len(frames)))]]
        start = clock()
        accelerator.run(many)
        took = (clock() - start) / len(many)
        found |= {"cycles_per_frame": round(took * CYCLES, 1)} if simulated else {"frames_per_second": round(1 / took, 1)}
        with suppress(DeviceError):  # built without counters
            found["bottleneck"] = accelerator.bottleneck()
    return found, answers


def words(found: dict) -> list[str]:
    """For a terminal."""
    named = f": {', '.join(found['golden_answers'])}" if "golden_answers" in found else ""
    rate = (f"{found['cycles_per_frame']:,} cycles a frame" if "cycles_per_frame" in found
            else f"{found['frames_per_second']:,} frames a second")
    slowest = f"; the bottleneck is {found['bottleneck']}" if "bottleneck" in found else ""
    return [f"{found['model']} on a {found['on']}: {found['golden']} golden frames are right{named}",
            f"{rate} with this driver{slowest}"]


def _found(folder: Path) -> tuple[Description, Path | None]:
    """The description in a target's folder, and its Verilog where that is there."""
    for place, (description, verilog) in PLACES.items():
        if (folder / place / description).is_file():
            text = folder / place / verilog
            return Description.read(folder / place / description), text if text.is_file() else None
    raise InputError(f"{folder} holds no accelerator.json: name the folder of emamba build axi, zcu102, zcu104 or kv260")


@contextmanager
def _simulated(folder: Path, description: Description, verilog: Path | None) -> Iterator[NativeTransport]:
    if description.stream:
        raise DesignLimit(f"{folder} is an engine whose weights are streamed, and --sim has no memory for them: build it with "
                          "--weights constant")
    if verilog is None:
        raise InputError(f"{folder} has no Verilog beside its accelerator.json: --sim takes the whole folder of emamba build")
    text = re.sub(r"\A(//.*\n)+", "", read_text(verilog, LARGEST)).replace("emamba_system", "top")
    width = BITS.search(text)
    if width is None or int(width[1]) > 63:
        raise DesignLimit(f"{verilog}: --sim has streams of 32 and 64 bits: build it with --bus-bits 64")
    with NativeTransport.of(text, int(width[1]) + 1, cycles=CYCLES, **BUILD) as transport:
        yield transport


@contextmanager
def _board() -> Iterator[UioTransport]:
    transport = UioTransport()
    try:
        yield transport
    finally:
        transport.close()
