"""The selective scan of Mamba-2 (SSD): one decay a head, B and C by groups of heads."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from ..base.errors import DesignLimit, InputError
from .base import Array, check_same, register
from .scan import Scan


@register
@dataclass(frozen=True, kw_only=True, eq=False)
class HeadScan(Scan):
    """A `Scan` whose channels are `heads` of equal size. Each head has one δ and one A, so one Ā for all its channels and states.
    Each of `groups` equal parts of the heads has a B and a C.

    A [heads, 1] in format `a`; D [heads] or [d_inner] in format `d`; inputs u [d_inner], δ [heads], B and C [groups · d_state].
    Source: Mamba-2 (arXiv 2405.21060); the integers are `Scan`'s.
    """

    channels: int
    states: int
    groups: int = 1

    attributes: ClassVar = {"groups": range(1, 1 << 12), "wide_D": bool}
    source = Path(__file__).with_suffix(".c")

    def _check_shapes(self):
        heads, columns = self.A.shape
        check_same("the columns of A", columns, 1)
        if self.channels % heads:
            raise DesignLimit(f"{self.channels} channels do not divide into {heads} heads")
        if self.groups < 1 or heads % self.groups:
            raise DesignLimit(f"{heads} heads do not divide into {self.groups} groups")
        if self.D.shape not in ((heads,), (self.channels,)):
            raise DesignLimit(f"the shape of D is {list(self.D.shape)}, but the node needs [{heads}] or [{self.channels}]")
        if not 1 <= self.states <= 1 << 14:
            raise DesignLimit(f"states = {self.states} is out of range; it must lie in 1..{1 << 14}")

    @property
    def width(self) -> int:
        return self.channels

    @property
    def d_state(self) -> int:
        return self.states

    @property
    def heads(self) -> int:
        return self.A.shape[0]

    @property
    def head_dim(self) -> int:
        """Channels a head."""
        return self.channels // self.heads

    @property
    def direct(self) -> Array:
        return np.repeat(self.D, self.channels // len(self.D))

    def _of_channels(self, x: Array) -> Array:
        return np.repeat(x, self.head_dim, -2)

    def _by_state(self, x: Array) -> Array:
        by_group = x.reshape(self.groups, self.states, -1).swapaxes(0, 1)
        return by_group if self.groups == 1 else np.repeat(by_group, self.channels // self.groups, 1)

    def check_node(self, node):
        check_same("the number of groups", self.groups, node.groups or 1)

    # -- a node of this kind --------------------------------------------------------------------------------------------------

    @classmethod
    def shapes(cls, node, widths):
        groups, heads = node.groups or 1, widths[1]
        for whole, into in (((node.width, "channels"), (heads, "heads")), ((heads, "heads"), (groups, "groups")),
                            ((widths[2], "channels of B"), (groups, "groups"))):
            if whole[0] % into[0]:
                raise InputError(f"{whole[0]} {whole[1]} do not divide into {into[0]} {into[1]}")
        return {"A_log": (heads,), "D": (node.width if node.wide_D else heads,), "h0": (node.width, widths[2] // groups)}

    @classmethod
    def initial(cls, xp, node, name, shapes):
        if name != "A_log":
            return xp.full(shapes[name], 1.0 if name == "D" else 0.0)
        return xp.log(xp.uniform(1.0, 16.0, shapes["A_log"]))  # mamba_ssm: A uniform in -1..-16

    @classmethod
    def prepared(cls, xp, parameters):
        return super().prepared(xp, parameters) | {"A": -xp.exp(parameters["A_log"])[:, None]}

    @classmethod
    def parts(cls, xp, node, parameters, u, dt, B, C):
        groups, channels, states = node.groups or 1, node.width, B.shape[-1] // (node.groups or 1)
        heads = dt.shape[-1]
        dt, A = xp.repeat(dt, channels // heads, -1), xp.repeat(parameters["A"], channels // heads, 0)
        D = xp.repeat(parameters["D"], channels // len(parameters["D"]), 0)
        A, size, found = xp.repeat(A, states, 1), channels // groups, []
        for group in range(groups):
            own, of_B = slice(group * size, (group + 1) * size), slice(group * states, (group + 1) * states)
            h0 = parameters["h0"][own] if "h0" in parameters else None
            found.append((u[..., own], dt[..., own], B[..., of_B], C[..., of_B], A[own], D[own], h0))
        return found

    @classmethod
    def _shape(cls, node, q):
        groups = node.groups or 1
        return {"channels": node.width, "states": q.graph[node.inputs[2]].width // groups, "groups": groups}

    # -- C --------------------------------------------------------------------------------------------------------------------

    def c(self, loop):
        _, fields = super().c(loop)
        return "head_scan_delta_b" if self.delta_b else "head_scan_delta_u", fields | {
            "head": self.head_dim, "group": self.channels // self.groups}
