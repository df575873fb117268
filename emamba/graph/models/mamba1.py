"""Mamba-1, in the paper's form and in the standard one."""

from ..builder import Builder, model
from .blocks import blocks, convolution
from .delta import step_size


@model("emamba", "standard")
def mamba1(g: Builder) -> str:
    """Blocks of norm → {x → conv → selective scan} ‖ {z → SiLU} → gate → out, with the residual.

    `emamba`: paper, Fig. 2 and Eq. 4 (ReLU on δ), and the authors' hardware (SiLU on the gate only, x, z and out with bias).
    `standard`: SiLU also after the convolution, softplus on δ, no such bias unless `bias` is true (arXiv 2312.00752).
    """
    return blocks(g, mixer)


def mixer(g: Builder, at: str, tensors: str, normed: str) -> str:
    """What lies between a block's norm and its residual sum."""
    c = g.config
    standard = c.form == "standard"
    bias = not standard if c.bias is None else c.bias
    inner = g.linear(f"{at}x", normed, c.d_inner, bias=bias, tensors=f"{tensors}x")
    z = g.linear(f"{at}z", normed, c.d_inner, bias=bias, tensors=f"{tensors}z")
    u = convolution(g, f"{at}conv", inner, tensors=f"{tensors}conv")
    if standard:
        u = g.activation(f"{at}u", u, "silu")
    low = g.linear(f"{at}dt_low", u, c.dt_rank, bias=c.inner_bias, tensors=f"{tensors}dt_low")
    delta = step_size(g, at, low, c.d_inner, tensors=f"{tensors}dt")
    B = g.linear(f"{at}B", u, c.d_state, bias=c.inner_bias, tensors=f"{tensors}B")
    C = g.linear(f"{at}C", u, c.d_state, bias=c.inner_bias, tensors=f"{tensors}C")
    y = g.scan(f"{at}y", u, delta, B, C, tensors=tensors.removesuffix("."))
    gate = g.multiply(f"{at}gate", y, g.activation(f"{at}silu", z, "silu"))
    return g.linear(f"{at}out", gate, c.d_model, bias=bias, role="branch", tensors=f"{tensors}out")
