"""What commands print and write."""

import json
from pathlib import Path

from emamba.artifact import Artifact, save
from emamba.datasets import Dataset
from emamba.datasets.metrics import words
from emamba.io.files import write_file


def measure_and_save(artifact: Artifact, data: Dataset, folder: Path) -> int:
    """Writes an artifact with its figures on the test part and the golden sequences."""
    from ..artifacts import measure

    for backend, figures in measure(artifact, data).items():
        print(f"{backend}: {words(figures, data.unit)}")
    return save_artifact(artifact, folder)


def save_artifact(artifact: Artifact, folder: Path) -> int:
    """Writes an artifact, and says what its certificates prove."""
    for name, certificate in artifact.record["certificate"].items():
        holds = "cannot overflow" if certificate["holds"] else "may saturate"
        print(f"{name}: the state {holds} (bound {certificate['bound']} of {certificate['limit']})")
    print(f"{folder}: digest {save(artifact, folder)[:16]}")
    return 0


def write_json(path: Path | None, value: dict) -> None:
    """Writes the result of a command where --json asks for it."""
    if path is not None:
        write_file(path, lambda temporary: temporary.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8"))
