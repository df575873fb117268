"""`emamba build c`: an artifact as C for microcontrollers, with what it takes on a Cortex-M4 where the tools are there."""

import argparse
import json
import tempfile
from pathlib import Path

from boards import microcontroller
from boards.describe import golden_frames
from emamba.artifact import Artifact, load
from emamba.base.errors import ToolFailed, ToolMissing
from emamba.base.options import refuse
from emamba.io.files import check_replaceable, foreign, write_folder
from emamba.micro.measure import Measured, measure
from emamba.micro.project import PREFIX, Project, renamed

TARGET, CORE = "c", "m4"
RECORD = "report.json"
OWN = ("target", "artifact", "out", "prefix")
"""Options that this target has; all others are of hardware."""


def build(options: argparse.Namespace, defaults: dict) -> int:
    """Writes the folder and says what is in it; `defaults` are the options' values where they are not given."""
    prefix = options.prefix or PREFIX
    renamed("", prefix)
    refuse(options, sorted(defaults.keys() - set(OWN)), f"is of hardware; the target {TARGET} has no such choice", defaults)
    out = options.out or Path("build") / TARGET
    check_replaceable(out, RECORD, RECORD)
    artifact = load(options.artifact)
    project = Project(artifact, golden_frames(artifact))
    measured, note = _measured(artifact, project)
    with write_folder(out, RECORD, RECORD) as folder:
        project.write(folder, measured, note, prefix)
        microcontroller.write(project, folder, prefix)
        report = {"target": TARGET, "artifact": {"name": artifact.name, "digest": artifact.digest}} | project.report() | {
            "measured": measured and measured.report(), "notes": [note]}
        (folder / RECORD).write_text(json.dumps(report), encoding="utf-8")
    print(f"{TARGET} of {artifact.name}: {project.source.ram:,} bytes of RAM, {project.source.constants:,} of weights and "
          f"tables, {project.multiplications:,} multiplications a frame")
    print(f"{out}: {', '.join(sorted(path.name for path in out.iterdir()))}")
    print(f"note: {note}")
    if kept := foreign(out, RECORD):
        print(f"kept, since it was not written here, and perhaps of an earlier design: {', '.join(kept)}")
    return 0


def _measured(artifact: Artifact, project: Project) -> tuple[Measured | None, str]:
    """What a Cortex-M4 takes, and a sentence about it."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        project.write(folder)
        try:
            found = measure(folder, CORE, project.source.ram, frames=1)
        except (ToolMissing, ToolFailed) as error:
            return None, f"nothing was measured: {error}"
    if found.wrong:
        raise ToolFailed(f"the golden frame of {artifact.name} on a Cortex-M4 in qemu is not that of the integer model")
    each = found.instructions / max(1, project.multiplications)
    return found, (f"on a Cortex-M4 in qemu, the golden frame is equal to the integer model's: {found.instructions:,} "
                   f"instructions, {each:.2f} a multiplication; {found.flash:,} bytes of flash, {found.stack:,} of stack")
