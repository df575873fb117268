"""A vision transformer, for comparison with the Mambas."""

from ..builder import Builder, model
from .attention import attention
from .blocks import blocks, convolution


@model("vit")
def vit(g: Builder) -> str:
    """Blocks of norm → attention → out with the residual, and the configuration's MLP. A convolution of the embedding, added to
    it, tells the tokens their places (arXiv 2102.10882)."""
    g.x = g.residual("placed", g.x, convolution(g, "place", g.x, tensors="place"))
    return blocks(g, attention)
