"""The convolutional network that MARS was published with (An and Ogras, ACM TECS 2021), its norms folded into its layers."""

from emamba.graph import Builder, model


@model("mars_published")
def mars_published(g: Builder) -> str:
    """The stem's convolutions, then a Linear with ReLU of all their places at once."""
    whole = g.window("whole", g.nodes.pop("embed").inputs[0], g.config.grid, pads=(0, 0, 0, 0))
    return g.linear("dense", whole, g.config.d_model, function="relu")
