"""From a trained Mamba to integer-only hardware.

`compile` takes a module of torch, `load` the folder of an artifact; both give an object that evaluates, compares, reports,
simulates, builds and exports (`flow.compiled`). They are loaded when first asked for: the import itself is light.
"""

from importlib import import_module

__all__ = ["compile", "load"]


def __getattr__(name: str):
    if name in __all__:
        return getattr(import_module("flow.compiled"), name)  # by name: the layers below import nothing of flow
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
