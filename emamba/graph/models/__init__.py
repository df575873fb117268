"""The models that come with the package; importing this registers their forms."""

from . import mamba1

__all__ = ["mamba1"]
