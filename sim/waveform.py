"""A recording as a waveform: a VCD file, and a file of gtkwave's with its signals in the order of the data."""

from itertools import groupby
from pathlib import Path

from vcd import VCDWriter
from vcd.gtkw import GTKWSave

from rtl.kit.block import Port

from .recorder import Recording

TOP = "accelerator"
CYCLE = 10
"""Nanoseconds in the file; the design has no clock rate of its own."""


def _scope(stream: str) -> str:
    """`block0.x.i` is stream `i` of the instance `block0_x`."""
    *node, port = stream.split(".")
    return ".".join([TOP, *(["_".join(node)] if node else []), port])


def _signals(port: Port) -> dict[str, tuple[int, int]]:
    """Name → (lowest bit, bits) of a beat's parts; lane k is `payload_k`."""
    bits, top = port.format.bits, port.lanes * port.format.bits
    return {f"payload_{k}": (k * bits, bits) for k in range(port.lanes)} | {"first": (top, 1), "last": (top + 1, 1)}


def write_vcd(recording: Recording, path: Path) -> None:
    """Signals: each lane's integer, `first`, `last`, `valid` and `ready` of every stream; `clk`, and the number of the cycle."""
    with path.open("w", encoding="ascii", newline="\n") as file, VCDWriter(file, timescale="1 ns", date="") as writer:
        clk = writer.register_var(TOP, "clk", "wire", 1, 0)
        count = writer.register_var(TOP, "cycle", "wire", 32, 0)
        flags, parts = [], []
        for name, port in recording.streams.items():
            scope = _scope(name)
            flags.append([writer.register_var(scope, flag, "wire", 1, 0) for flag in ("valid", "ready")])
            parts.append([(writer.register_var(scope, part, "wire", bits, 0), low, (1 << bits) - 1)
                          for part, (low, bits) in _signals(port).items()])
        before = [0] * len(parts)
        for cycle, (valid, ready, payload) in enumerate(zip(recording.valid, recording.ready, recording.payload, strict=True)):
            time = cycle * CYCLE
            writer.change(clk, time, 1)
            writer.change(count, time, cycle)
            for k, beat in enumerate(payload):
                for signal, value in zip(flags[k], (valid[k], ready[k]), strict=True):
                    writer.change(signal, time, int(value))
                if beat != before[k]:
                    for signal, low, mask in parts[k]:
                        writer.change(signal, time, beat >> low & mask)
            before = payload
            writer.change(clk, time + CYCLE // 2, 0)
        writer.close(recording.cycles * CYCLE)


def write_gtkw(recording: Recording, path: Path) -> None:
    """Groups by instance, closed but for the design's own streams; payloads as signed or unsigned decimals."""
    with path.open("w", encoding="ascii", newline="\n") as file:
        save = GTKWSave(file)
        save.zoom_markers(-6)
        save.trace(f"{TOP}.clk")
        save.trace(f"{TOP}.cycle[31:0]", datafmt="dec")
        for instance, names in groupby(recording.streams, lambda name: _scope(name).rpartition(".")[0]):
            with save.group(instance, closed=instance != TOP):
                for name in names:
                    port = recording.streams[name]
                    save.blank(f"{name}: integers of {port.format.bits} bits, {port.format.step:g} each")
                    signals = [("valid", 1), ("ready", 1), *((part, bits) for part, (_, bits) in _signals(port).items())]
                    for signal, bits in signals:
                        signed = "signed" if port.format.signed and bits > 1 else "dec"
                        save.trace(f"{_scope(name)}.{signal}" + f"[{bits - 1}:0]" * (bits > 1), datafmt=signed)
