"""From sound files to features (`emamba.sensors.sound`), which come from the driver or from C: they are in no hardware."""

from pathlib import Path

import numpy as np

from ..base.errors import InputError, SettingError, ToolMissing, printable
from ..io.files import check_regular
from ..io.wav import read_wav
from ..sensors.sound import BANDS, FRAME, LogMel, fixed
from .grouping import PARTS, PATTERN, deal, group_of
from .prepared import Array, Prepared, named

LONGEST = 3600
"""Seconds of a sound at most."""
KINDS = (".wav", ".flac")


def sounds(folder: Path, seconds: float, bands: int, group: str | None = None, label: str | None = None) -> Prepared:
    """Features in `bands` bands, by `LogMel`, of the first `seconds` of every file; silence fills up shorter ones.

    The class is the name of the folder that a file is in, or what the pattern `label` finds in its name. `group` is a pattern
    too: groups go to the parts as wholes; without one, the files of each class are dealt by chance.
    """
    if not seconds >= FRAME:
        raise SettingError(f"--seconds must be at least {FRAME:g}, not {seconds:g}")
    if seconds > LONGEST:
        raise SettingError(f"--seconds must be at most {LONGEST}, not {seconds:g}")
    if not BANDS[0] <= bands <= BANDS[1]:
        raise SettingError(f"--bands must lie in {BANDS[0]}..{BANDS[1]}, not {bands}")
    for option, pattern in (("group", group), ("label", label)):
        if pattern is not None and not pattern.startswith(PATTERN):
            raise SettingError(f"--{option} {pattern}: of sounds it is a pattern on their names, such as --{option} "
                               f"'{PATTERN}^([^_]+)_'")
    files, remarks = _find_sounds(folder) if label is None else _labelled(folder, label.removeprefix(PATTERN))
    names = sorted(files)
    if len(names) < 2:
        raise InputError(f"{folder} has {len(names)} folders with .wav files: put the sounds of each class into a folder of its "
                         f"own, two classes at least, or find it in their names by --label {PATTERN}PATTERN"
                         + "".join(f"; {remark}" for remark in remarks))
    source = {"note": printable(f"{bands} bands of {seconds:g} s of the sounds in {folder.name}"), "seconds": seconds,
              "bands": bands, "remarks": remarks}
    parts = _by_chance(files) if group is None else _by_group(folder, files, group.removeprefix(PATTERN), source)
    x: dict[str, list[Array]] = {part: [] for part in PARTS}
    y: dict[str, list[int]] = {part: [] for part in PARTS}
    rates: dict[int, Path] = {}
    lengths = []
    for k, name in enumerate(names):
        for part in PARTS:
            for file in parts[name][part]:
                samples, rate = read_sound(file)
                if rates and rate not in rates:
                    other, = rates.items()
                    raise InputError(f"{file} has {rate} samples a second, {other[1]} has {other[0]}: convert them to one rate")
                rates[rate] = file
                front_end = LogMel.of_seconds(rate, bands, FRAME)
                heard = np.zeros(max(round(seconds * rate), front_end.frame), np.int16)
                lengths.append(len(samples) / rate)
                taken = fixed(samples[:len(heard)])
                heard[:len(taken)] = taken
                x[part].append(front_end.features(heard).astype(np.float32))
                y[part].append(k)
    if empty := [part for part in PARTS if not y[part]]:
        raise InputError(f"{folder}: no sound is for {empty[0]}: group by something else")
    if short := sum(length < seconds for length in lengths):
        remarks.append(f"{short} of {len(lengths)} sounds are shorter than {seconds:g} s, and half of all than "
                       f"{np.median(lengths):.3g} s: silence fills them up (--seconds)")
    made = Prepared({part: np.stack(values) for part, values in x.items()},
                    {part: np.array(values, np.int64) for part, values in y.items()},
                    source | {"front_end": front_end.fields})
    return named(made, names, lambda k: f"the class '{names[k]}' has {len(files[names[k]])} sounds, and all of their groups "
                 "validate or test: group by something else")


def read_sound(file: Path) -> tuple[Array, int]:
    """Samples −1..1 float64, channels averaged, and samples a second."""
    if file.suffix.lower() != ".flac":
        return read_wav(file)
    check_regular(file)
    try:
        import soundfile
    except ImportError:
        raise ToolMissing(f"{file}: FLAC is read by soundfile, which is not here: pip install soundfile, or convert it to "
                          "16-bit PCM") from None
    try:
        samples, rate = soundfile.read(file, dtype="float64", always_2d=True)
    except (RuntimeError, OSError) as error:  # LibsndfileError is the former
        raise InputError(f"{file} cannot be read as FLAC ({error}): convert it to 16-bit PCM") from None
    if not len(samples):
        raise InputError(f"{file} holds no sound: remove it")
    return samples.mean(1), int(rate)


def _by_chance(files: dict[str, list[Path]]) -> dict[str, dict[str, list[Path]]]:
    found = {}
    for name, own in files.items():
        if len(own) < len(PARTS):
            raise InputError(f"{own[0].parent} has {len(own)} .wav files; a class needs at least 3, one for each part")
        order = np.random.RandomState(0).permutation(len(own))  # RandomState: numpy promises its stream never changes
        cuts = max(1, len(order) // 5)
        shares = {"train": order[2 * cuts:], "validate": order[cuts:2 * cuts], "test": order[:cuts]}
        found[name] = {part: [own[number] for number in numbers] for part, numbers in shares.items()}
    return found


def _by_group(folder: Path, files: dict[str, list[Path]], pattern: str, source: dict) -> dict[str, dict[str, list[Path]]]:
    groups = {file: group_of(file, pattern) for own in files.values() for file in own}
    names, classes = sorted(set(groups.values())), sorted(files)
    counts = np.array([[sum(groups[file] == name for file in files[kind]) for kind in classes] for name in names])
    parts = deal(names, counts, str(folder))
    source["groups"] = {part: [printable(name) for name in names if parts[name] == part] for part in PARTS}
    return {kind: {part: [file for file in own if parts[groups[file]] == part] for part in PARTS} for kind, own in files.items()}


def _find_sounds(folder: Path) -> tuple[dict[str, list[Path]], list[str]]:
    """The WAV files of each class, in the order of their names, and sentences on all that is left out."""
    files: dict[str, list[Path]] = {}
    left: dict[str, list[str]] = {}

    def leave(what: str, place: Path) -> None:
        left.setdefault(what, []).append(str(place.relative_to(folder)))

    for place in _listed(folder):
        if not place.is_dir():
            leave("files beside the folders of the classes", place)
            continue
        inside = _listed(place)
        own = [file for file in inside if _is_sound(file) and not file.is_dir()]
        if not own:
            leave("folders without .wav files", place)
            continue
        files[place.name] = own
        for other in sorted(set(inside) - set(own)):
            leave(f"{'folders' if other.is_dir() else 'files of other kinds'} in the folders of the classes", other)
    return files, [printable(f"left out: {what}, {len(names)} ({', '.join(names[:3])}{', …' if len(names) > 3 else ''})")
                   for what, names in left.items()]


def _labelled(folder: Path, pattern: str) -> tuple[dict[str, list[Path]], list[str]]:
    """The files in a folder and all below it by the class that the pattern finds in their names."""
    files: dict[str, list[Path]] = {}
    for file in sorted(file for file in folder.rglob("*") if _is_sound(file) and file.is_file()):
        files.setdefault(group_of(file, pattern, "label"), []).append(file)
    return files, []


def _is_sound(file: Path) -> bool:
    """A name that ends with .wav or .flac in any case, but for the companions that macOS leaves on other disks."""
    return file.suffix.lower() in KINDS and not file.name.startswith("._")


def _listed(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError as error:
        raise InputError(f"cannot read {folder}: {error.strerror}") from None
