"""The selective scan of Mamba-2: a `Scan` in which each Ā is computed once a head."""

from dataclasses import dataclass

import numpy as np

from emamba.ops import HeadScan as Operator

from ..kit.datapath import fold
from ..kit.hdl import Mux
from ..kit.registry import realizes
from ..kit.rom import rom
from .scan import Scan


@realizes(Operator)
@dataclass(frozen=True)
class HeadScan(Scan):
    """As `Scan`, for heads of channels: a beat of δ has the heads of a beat of u, and stays while a head takes several of them;
    so do B and C with groups. `lanes` divide a head or are whole heads, and likewise of groups. Formats: `emamba.ops.HeadScan`.
    """

    stores = "state"

    @property
    def head_lanes(self):
        return max(1, self.lanes // self.op.head_dim)

    @property
    def group_lanes(self):
        return max(1, self.lanes * self.op.groups // self.op.width)

    @property
    def decay_units(self):
        return self.head_lanes

    @staticmethod
    def possible_lanes(op, least):
        size = op.head_dim  # channels that may not be cut: of a head, of a group, of all
        for parts, whole in ((size, 1), (op.heads // op.groups, size), (op.groups, op.width // op.groups)):
            for count in range(1, parts + 1):
                if count * whole >= least and (parts % count == 0 or whole * parts == op.width):
                    return count * whole
        return op.width

    def _rates(self, A):
        return self._by_row(A[:, 0])

    def _by_row(self, values: np.ndarray) -> np.ndarray:
        """[heads, ...] → [channel_groups, head_lanes, ...], one row a beat of u."""
        return np.repeat(fold(values, self.inputs["dt"].beats, self.head_lanes), self._rows("dt"), 0)

    def _segments(self, m, block, pipeline, inner, dt, step, group):
        op = self.op
        A = rom(pipeline, "A", *self.constants()["A"], group, self.operands)

        def decay(own, head, delta, a, lane):
            found = self._decay(head, head, delta * a)
            return Mux(own.register(lane == 0, "held", self.lead), 1 << op.a_bar.frac, found) if op.hold else found

        decays = pipeline.each(decay, pipeline.modules("head", self.head_lanes), dt, A, block.dt.payload.data)
        return self._of_states(decays)

    def _table(self, block, pipeline, step, group):
        entries = np.moveaxis(self._by_row(self._by_code()), -1, 1)  # rows, codes, heads, 1
        return self._of_states(self._looked_up(block, pipeline, entries, group))

    def _of_states(self, decays: list) -> list:
        return [decay for decay in self._spread(decays) for _ in range(self.state_lanes)]
