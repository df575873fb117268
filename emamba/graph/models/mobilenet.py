"""A convolutional network, for comparison with the Mambas."""

from ..builder import Builder, model
from .blocks import blocks, convolution


@model("mobilenet")
def mobilenet(g: Builder) -> str:
    """Blocks of norm → up → ReLU → the configuration's depthwise convolution → SiLU → down, with the residual: the inverted
    residuals of MobileNetV2 (arXiv 1801.04381) with a norm before instead of three after."""
    return blocks(g, mixer)


def mixer(g: Builder, at: str, tensors: str, normed: str) -> str:
    """What lies between a block's norm and its residual sum."""
    hidden = g.linear(f"{at}up", normed, g.config.d_inner, tensors=f"{tensors}up", function="relu")
    mixed = g.activation(f"{at}u", convolution(g, f"{at}conv", hidden, tensors=f"{tensors}conv"), "silu")
    return g.linear(f"{at}down", mixed, g.config.d_model, role="branch", tensors=f"{tensors}down")
