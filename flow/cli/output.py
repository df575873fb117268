"""What commands print and write."""

import json
from pathlib import Path

from emamba.artifact import Artifact, save
from emamba.base.progress import say
from emamba.datasets import Dataset
from emamba.datasets.metrics import words
from emamba.io.files import write_file


def measure_and_save(artifact: Artifact, data: Dataset, folder: Path, **known) -> int:
    """Writes an artifact with its figures on the test part and the golden sequences; `known` as of `save_artifact`."""
    from ..artifacts import measure
    from ..verdict import baseline_of, figure_part

    say("measures")
    measured = measure(artifact, data)
    for backend, figures in measured.items():
        print(f"{backend}: {words(figures, data.unit)}")
    figure = figure_part(artifact.config.task, data.unit, measured, baseline_of(data, artifact.record))
    return save_artifact(artifact, folder, figure=figure, **known)


def save_artifact(artifact: Artifact, folder: Path, **known) -> int:
    """Writes an artifact with its verdict, and says what its certificates prove. `known` are parameters of `verdict`."""
    from ..verdict import lines, verdict

    for name, certificate in artifact.record["certificate"].items():
        holds = "cannot overflow" if certificate["holds"] else "may saturate"
        print(f"{name}: the state {holds} (bound {certificate['bound']} of {certificate['limit']})")
    say("weighs it for devices")
    artifact.record["verdict"] = found = verdict(artifact, **known)
    print(f"{folder}: digest {save(artifact, folder)[:16]}")
    print("\n".join(lines(found)))
    return 0


def write_json(path: Path | None, value: dict) -> None:
    """Writes the result of a command where --json asks for it."""
    if path is not None:
        write_file(path, lambda temporary: temporary.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8"))
