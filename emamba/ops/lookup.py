"""Token embedding."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import numpy as np

from ..base import arithmetic as arith
from ..base.errors import DesignLimit, InputError
from ..base.formats import IntFormat
from .base import Array, Operator, check_input, check_matrix, register, rounded


@register
@dataclass(frozen=True, kw_only=True, eq=False)
class Lookup(Operator):
    """Row x of `table` [vocabulary, d_model]; ids beyond the table give its last row."""

    table: Array
    i: IntFormat

    attributes: ClassVar = {"rows": range(2, (1 << 20) + 1)}
    needed = ("rows",)
    loadable = True
    decayed = ("weight",)
    streams = refined = False
    source = Path(__file__).with_suffix(".c")

    def __post_init__(self):
        check_matrix("table", self.table)
        arith.check_range("table", self.table, self.o)

    @property
    def width(self) -> int:
        return self.table.shape[1]

    @classmethod
    def shapes(cls, node, widths):
        return {"weight": (node.rows, node.width)}

    @classmethod
    def initial(cls, xp, node, name, shapes):
        return xp.normal(shapes[name])

    @classmethod
    def real(cls, xp, node, parameters, x):
        return xp.lookup(parameters["weight"], x)

    @classmethod
    def quantize(cls, node, q):
        o = q.formats[node.name]
        table = rounded(q.parameters(node)["weight"] * 2.0**o.frac, o.min, o.max)
        return cls(table=table, i=q.formats[node.inputs[0]], **q.common(node))

    def retrained(self, parameters, **unit):
        return replace(self, table=rounded(parameters["weight"] / self.o.step, self.o.min, self.o.max))

    def check_node(self, node):
        if len(self.table) != node.rows:
            raise InputError(f"it has {len(self.table)} rows, the model needs {node.rows}")

    def check_inputs(self, producers):
        check_input("lookup", producers[0], 1, self.i)

    def __call__(self, x: Array) -> Array:
        return self.table.astype(arith.word(self.o.magnitude))[np.minimum(x[..., 0], len(self.table) - 1)]

    def c(self, loop):
        if self.i.signed:
            raise DesignLimit(f"the C loop reads unsigned token ids, not {self.i}")
        return "lookup", {"rows": len(self.table), "table": loop.pointer(self.table, "VALUE")}
