"""From a trained Mamba to integer-only hardware. `compile` is loaded when it is first asked for: the import itself is light."""

__all__ = ["compile"]


def __getattr__(name: str):
    if name == "compile":
        from .api import compile

        return compile
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
