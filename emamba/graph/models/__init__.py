"""The models that come with the package; importing this registers their forms."""

from . import mamba1, mamba2, mobilenet, vit

__all__ = ["mamba1", "mamba2", "mobilenet", "vit"]
