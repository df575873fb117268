"""What other commands wrote with --json, for the report."""

import json
from collections.abc import Callable
from pathlib import Path

from emamba.artifact import Artifact
from emamba.base.errors import InputError
from emamba.io.files import read_text

LARGEST = 1 << 28
"""Bytes of a file."""


def read_sensitivity(file: Path, artifact: Artifact) -> dict:
    """What `emamba sensitivity --json` wrote of the artifact."""
    return _read(file, "sensitivity", lambda found: _is_sensitivity(found, artifact))


def read_stalls(file: Path, artifact: Artifact) -> dict:
    """What `emamba simulate --json` wrote of the artifact."""
    return _read(file, "simulate", lambda found: _is_stalls(found, artifact))


def _read(file: Path, command: str, is_of: Callable[[dict], bool]) -> dict:
    try:
        found = json.loads(read_text(file, LARGEST))
        if not is_of(found):
            raise ValueError("it is of another artifact")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(f"{file} is not what emamba {command} --json writes ({error}): run it again") from None
    return found


def _is_sensitivity(found: dict, artifact: Artifact) -> bool:
    names = {row["name"] for row in found["rows"] if row["changes"].keys() and row["bits"]}
    return {*found} >= {"error", "base", "sequences"} and bool(names & set(artifact.operators))


def _is_stalls(found: dict, artifact: Artifact) -> bool:
    bins = len(found["edges"]) - 1
    whole = all({*stream} >= {"name", "transfer", "blocked"} and all(len(stream["bins"][kind]) == bins for kind in
                                                                     ("transfer", "blocked")) for stream in found["streams"])
    known = {*found} >= {"cycles", "sequences", "data", "stall_percent", "cycles_per_token"}
    return whole and known and found["artifact"]["digest"] == artifact.digest
