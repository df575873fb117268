"""The step size δ of a block."""

from ..builder import Builder


def step_size(g: Builder, at: str, x: str, width: int, *, tensors: str) -> str:
    """A Linear of x, then ReLU (paper) or softplus (Mamba), with the configuration's offset and limits; never negative."""
    c = g.config
    low, high = c.delta_limits or (None, None)
    bounds = {"offset": c.delta_offset, "low": low, "high": high}
    if c.delta == "relu":
        return g.linear(f"{at}dt", x, width, role="delta", tensors=tensors, function="relu", delta="relu")
    raw = g.linear(f"{at}dt_raw", x, width, tensors=tensors, delta="softplus")
    return g.activation(f"{at}dt", raw, "softplus", role="delta",
                        **{name: float(value) for name, value in bounds.items() if value is not None})
