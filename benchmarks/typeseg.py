"""The model of PyPI's typeseg 0.2.7 as integers: `python -m benchmarks.typeseg FOLDER [IDS | RTL_BYTES CYCLES]`.

FOLDER holds the unpacked wheel (`typeseg_layout` says how). Texts are this repository's own files of many languages and
WikiText-2, cut into sequences of LENGTH bytes, which the model reads apart: one of TEXT bytes that is compared, other files to
calibrate on. With a file IDS these token ids are written there, as `emamba import --calibration` reads them, and nothing is
measured. Else it prints how far the float executor lies from the package's NumPy reference, how often the integer model labels
a byte as the float model does, and what the hardware costs on a ZCU102; with RTL_BYTES, also how many of the RTL's integers
differ from the integer model's, for so many bytes of that text in sequences of RTL_LENGTH: an hour of simulation for 2,048 bytes
at 4096 cycles.
"""

import lzma
import sys
from pathlib import Path

import numpy as np

from emamba.api import calibrated, plain_codec, read_model_files
from emamba.artifact import Artifact
from emamba.base.door import guarded
from emamba.base.errors import InputError, Mismatch
from emamba.config import QuantizeConfig
from emamba.graph import build_graph, import_models
from emamba.run.executors import make_executor
from emamba.run.reference import Reference
from rtl.kit.datapath import Products
from rtl.plan.cost import estimate
from rtl.plan.devices import find
from rtl.plan.schedule import Realization, Schedule
from sim.executor import RtlExecutor

LENGTH = 256
TEXT, CALIBRATION_TEXT = 102_400, 74_496
KINDS = ("py", "md", "c", "cpp", "toml", "json", "ts", "sh", "cff", "svg", "j2")
FOLDERS = ("asic", "benchmarks", "boards", "docs", "emamba", "flow", "models", "rtl", "sim", "tests", "tools", "verify")
FILES, BYTES = 12, 1500
"""Of each kind so many files, of each so many bytes; WikiText-2 fills up."""
CALIBRATION, COMPARED = 24, 4
"""Sequences that choose the scales, every n-th of their text; sequences of the slow reference."""
LIMIT, SHARE = 1e-4, 0.995
CYCLES, RTL_LENGTH = 4096, 64
"""A sequence waits for seven reversals of its length, so that a simulation takes less time for shorter ones."""
STEPS = {"y": (18, (6, 7, 3, 4, 2, 1)), "turned_y": (18, (6, 7, 3, 4, 2, 1)), "both": (19, (6, 7, 3, 4, 2, 1)),
         "gate": (20, (6, 6, 4, 4, 2, -2)), "out": (19, (7, 7, 5, 5, 3, -1)), "residual": (19, (7, 7, 5, 5, 3, -1)),
         "dt": (18, (13,) * 6)}
"""Bits, and fraction bits by block: a quarter of room above the largest of 96 sequences, of which a few have values a hundred
times the root mean square."""
SETTINGS = QuantizeConfig(
    activation_bits=13, residual_bits=16, weight_bits=11, weight_scale="dyadic", a_bits=8, decay_bits=14, state_bits=38,
    rule="exact", exp_segments=64, formats={
        f"block{k}.{name}": f"{'U' if name == 'dt' else ''}INT{bits}*2^{-frac}"
        for name, (bits, fracs) in STEPS.items() for k, frac in enumerate(fracs)})
"""δ lies in 1e-4..20 and A near -1, so that δ, A and Ā need all their bits; exp reads 18 of δ·A's 26. A state of up to 600
needs 25, which no input overflows."""


def sequences(size: int, skipped: int = 0) -> np.ndarray:
    """Token ids [n, LENGTH] of a text of `size` bytes, without the `skipped` first files of each kind and as much of WikiText-2:
    ASCII as it is, 128 for any other byte, as typeseg reads a text."""
    root, text = Path(__file__).parents[1], b""
    for kind in KINDS:
        for path in sorted(path for folder in FOLDERS for path in (root / folder).rglob(f"*.{kind}"))[skipped:skipped + FILES]:
            text += path.read_bytes()[:BYTES]
    text += lzma.decompress((root / "data/wikitext2/test.txt.xz").read_bytes())[skipped * BYTES * len(KINDS):]
    ids = np.frombuffer(text[:size - size % LENGTH], np.uint8).astype(np.int64)
    known = ((ids >= 32) & (ids < 127)) | np.isin(ids, (9, 10, 13))
    return np.where(known, ids, 128).reshape(-1, LENGTH)


def main(folder: Path, *words: str) -> None:
    ids, other = sequences(TEXT), sequences(CALIBRATION_TEXT, FILES)
    if len(words) == 1:
        np.save(words[0], other)
        return
    import_models(Path(__file__).with_name("typeseg_layout.py"))
    weights = folder / "typeseg/data/mamba_al.npz"
    model = read_model_files(weights, LENGTH, "typeseg")
    reference = Reference(build_graph(model.config), model.weights)
    float_answers = np.concatenate([reference.answer(ids[k:k + 16, :, None]) for k in range(0, len(ids), 16)])
    theirs = _theirs(folder, weights, ids[:COMPARED])
    difference = float(np.abs(theirs - float_answers[:COMPARED]).max())
    print(f"float: {difference:.2g} from the package's reference, for outputs of up to {np.abs(theirs).max():.3g}", flush=True)

    artifact = _artifact(weights, LENGTH, other)
    labels, (_, found) = float_answers.argmax(-1), _integers(artifact, ids)
    same = float((found.argmax(-1) == labels).mean())
    print(f"integer: {same:.3%} of {labels.size} bytes have the float model's label, of {len(np.unique(labels))} classes",
          flush=True)

    cycles, device = int(words[1]) if words else CYCLES, find("zcu102")
    schedule = Schedule(artifact, cycles, Realization(Products.PAIRS))
    needed = estimate(schedule, device.family)
    print(f"{device.name} at {cycles} cycles a token: {schedule.multipliers} multipliers, latency {schedule.latency} cycles; "
          + ", ".join(f"{name} {needed[name]:,.0f} of {limit:,}" for name, limit in device.limits.items()), flush=True)
    wrong = 0
    if words:
        artifact = _artifact(weights, RTL_LENGTH, other)
        tokens, wanted = _integers(artifact, ids.reshape(-1, RTL_LENGTH)[:int(words[0]) // RTL_LENGTH])
        executor = RtlExecutor(artifact, cycles)
        output = executor.answer(tokens, idle_cycles=2 * executor.schedule.latency)
        wrong = int((output != wanted).sum())
        print(f"RTL: {wrong} of {output.size} integers of {tokens.size} bytes, in sequences of {RTL_LENGTH}, differ from the "
              f"integer model's, after {executor.last.cycles:,} cycles", flush=True)
    if difference > LIMIT or same < SHARE or wrong:
        raise Mismatch(f"the model of {folder} is not as documented")


def _artifact(weights: Path, length: int, text: np.ndarray) -> Artifact:
    """The integer model for sequences of `length`, calibrated on a part of `text`."""
    model = read_model_files(weights, length, "typeseg")
    chosen = text[::len(text) // CALIBRATION].reshape(-1, length)
    return calibrated("typeseg", model.config, model.weights, plain_codec(model.config), chosen, SETTINGS,
                      {"import": {"notes": list(model.notes)}})


def _integers(artifact: Artifact, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Token ids as the integer model reads them, and what it answers."""
    tokens = artifact.codec.encode(ids[..., None], artifact.input)
    return tokens, make_executor(artifact, "int")(ids[..., None], [artifact.graph.output.name])[artifact.graph.output.name]


def _theirs(folder: Path, weights: Path, ids: np.ndarray) -> np.ndarray:
    """What the package itself answers."""
    sys.path.insert(0, str(folder))
    try:
        from typeseg._mamba_kernel import mamba_forward
    except ImportError as error:
        raise InputError(f"{folder} does not hold the unpacked wheel of typeseg ({error})") from None
    with np.load(weights) as arrays:
        named = {name.replace("__", "/"): arrays[name] for name in arrays}
    return np.stack([mamba_forward(np, named, row) for row in ids])


if __name__ == "__main__":
    sys.exit(guarded("typeseg", lambda: main(Path(sys.argv[1]), *sys.argv[2:])))
