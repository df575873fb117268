"""Python files of the user's own, which register models, operators and their hardware."""

import importlib
import os
import sys
from pathlib import Path

from ..base.errors import EmambaError, InputError

VARIABLE = "EMAMBA_MODELS"
"""The environment variable with the files, which processes that are started from here read too."""
_imported: set[Path] = set()


def import_models(*paths: Path | str) -> None:
    """Runs each file once, and names it in $EMAMBA_MODELS."""
    for path in map(Path, paths):
        if not path.is_file() or path.suffix != ".py":
            raise InputError(f"{path} is not a Python file; give one that registers a model by emamba.graph.model")
        path = path.resolve()
        if path in _imported:
            continue
        there = sys.modules.get(path.stem)
        if there is not None and getattr(there, "__file__", None) != str(path):
            raise InputError(f"{path} has the name of a module that is there, {path.stem}: rename it")
        _imported.add(path)
        if str(path.parent) not in sys.path:
            sys.path.append(str(path.parent))  # for the files beside it
        try:
            importlib.import_module(path.stem)
        except Exception as error:  # whatever a user's own file raises
            if isinstance(error, EmambaError):
                raise
            raise InputError(f"{path} cannot be imported ({type(error).__name__}: {error}): mend it") from None
        known = os.environ.get(VARIABLE, "").split(os.pathsep)
        os.environ[VARIABLE] = os.pathsep.join(dict.fromkeys([*filter(None, known), str(path)]))


def import_named() -> None:
    """Runs the files that $EMAMBA_MODELS names."""
    import_models(*filter(None, os.environ.get(VARIABLE, "").split(os.pathsep)))
