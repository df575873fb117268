"""A third-party model, brought in by one file: what PyPI's typeseg 0.2.7 labels the bytes of a text with.

    pip download typeseg==0.2.7 --no-deps && unzip -q typeseg-0.2.7-*.whl -d typeseg
    python -m benchmarks.typeseg typeseg ids.npy
    emamba --model benchmarks/typeseg_layout.py import typeseg/typeseg/data/mamba_al.npz --layout typeseg --calibration ids.npy \
        --out models/typeseg

Its blocks are those of Mamba-1 but for a centred convolution and a scan in both directions, of the same weights, before the gate.
Its arrays have the names that Flax gives, and matrices [in, out].
"""

from emamba.graph import Builder, model
from emamba.importers import layout


@model("typeseg")
def typeseg(g: Builder) -> str:
    c, x = g.config, g.x
    for k in range(c.blocks):
        at, tensors = f"block{k}.", f"blocks.{k}."
        normed = g.norm(f"{at}norm", x, tensors=f"{tensors}norm")
        inner = g.linear(f"{at}x", normed, c.d_inner, tensors=f"{tensors}x")
        z = g.linear(f"{at}z", normed, c.d_inner, tensors=f"{tensors}z")
        mixed = g.depthwise(f"{at}conv", inner, (1, c.d_conv), tensors=f"{tensors}conv")
        u = g.activation(f"{at}u", mixed, "silu")
        low = g.linear(f"{at}dt_low", u, c.dt_rank, tensors=f"{tensors}dt_low")
        raw = g.linear(f"{at}dt_raw", low, c.d_inner, tensors=f"{tensors}dt", delta="softplus")
        read = {"u": u, "dt": g.activation(f"{at}dt", raw, "softplus", role="delta", offset=1e-4),
                "B": g.linear(f"{at}B", u, c.d_state, tensors=f"{tensors}B"),
                "C": g.linear(f"{at}C", u, c.d_state, tensors=f"{tensors}C")}
        forward = g.scan(f"{at}y", *read.values(), tensors=f"blocks.{k}")
        turned = [g.reverse(f"{at}turned_{name}", node) for name, node in read.items()]
        backward = g.reverse(f"{at}back", g.scan(f"{at}turned_y", *turned, tensors=f"blocks.{k}"))
        both = g.residual(f"{at}both", forward, backward)
        gate = g.multiply(f"{at}gate", both, g.activation(f"{at}silu", z, "silu"))
        x = g.residual(f"{at}residual", x, g.linear(f"{at}out", gate, c.d_model, role="branch", tensors=f"{tensors}out"))
    return x


@layout("typeseg")
def names(tensors, length):
    table = tensors["Embed_0__embedding"]
    (vocabulary, d_model), classes = table.shape, len(tensors["Dense_0__bias"])
    weights = {"embed.weight": table}

    def norm(theirs: str, ours: str) -> None:
        weights.update({f"{ours}.weight": tensors[f"{theirs}__scale"], f"{ours}.bias": tensors[f"{theirs}__bias"]})

    def dense(theirs: str, parts: dict[str, int]) -> None:
        """One matrix as several, of so many outputs each."""
        kernel, bias = tensors[f"{theirs}__kernel"].T, tensors[f"{theirs}__bias"]
        for name, count in parts.items():
            weights.update({f"{name}.weight": kernel[:count], f"{name}.bias": bias[:count]})
            kernel, bias = kernel[count:], bias[count:]

    blocks = sum(name.endswith("__A_log") for name in tensors)
    for k in range(blocks):
        theirs, ours = f"CheckpointMambaBlock1D_{k}__", f"blocks.{k}."
        (e, n), rank = tensors[f"{theirs}A_log"].shape, len(tensors[f"{theirs}Dense_2__kernel"])
        norm(f"{theirs}LayerNorm_0", f"{ours}norm")
        dense(f"{theirs}Dense_0", {f"{ours}x": e, f"{ours}z": e})
        dense(f"{theirs}Dense_1", {f"{ours}dt_low": rank, f"{ours}B": n, f"{ours}C": n})
        dense(f"{theirs}Dense_2", {f"{ours}dt": e})
        dense(f"{theirs}Dense_3", {f"{ours}out": d_model})
        kernel = tensors[f"{theirs}Conv_0__kernel"][:, 0].T
        weights |= {f"{ours}conv.weight": kernel, f"{ours}conv.bias": tensors[f"{theirs}Conv_0__bias"],
                    f"{ours}A_log": tensors[f"{theirs}A_log"], f"{ours}D": tensors[f"{theirs}D"]}
    norm("LayerNorm_0", "norm")
    dense("Dense_0", {"head": classes})
    return {"form": "typeseg", "input": "tokens", "vocabulary": vocabulary, "d_model": d_model, "inner": e, "d_state": n,
            "dt_rank": rank, "d_conv": kernel.shape[1], "blocks": blocks, "norm": "layer", "norm_epsilon": 1e-6, "pool": "none",
            "task": "classification", "outputs": classes}, weights
