"""The tokens under a kernel that moves over a grid: copies, whose addresses leap."""

from emamba.base.errors import DesignLimit
from emamba.ops import Window as Operator

from ..micro import A, B, Body, Buffer, MicroOp, Operand, To
from ..registry import Executor, executes

COPY = MicroOp(x=0, a=A.CONSTANT, constant=1, b=B.ROW, to=To.DRAIN)
NOTHING = MicroOp(a=A.CONSTANT, b=B.CONSTANT, to=To.DRAIN)


@executes(Operator)
class Window(Executor):
    """A row of the kernel is tokens that follow each other. An instruction takes a row of places: of each one the kernel's rows,
    then it leaps to the next. Every tap begins a row of values."""

    def compile(self, c, node, op):
        grid, rows = op.grid, c.machine.groups(op.channels)
        high, wide = grid.places
        source, columns = c.load(node.inputs[0]), op.columns
        if any((op.pad_top, op.pad_left, op.pad_bottom, op.pad_right)):
            source, columns = self._bordered(c, node, op, rows), op.columns + op.pad_left + op.pad_right
        place = c.store(node, grid.taps)
        if node.name in c.graph.outputs:
            raise DesignLimit("the engine gives no window as an output: build it with --organization pipeline")
        for row in range(high):
            first = Operand(source.buffer, source.token + row * op.stride_rows * columns, True, rows=columns * rows,
                            period=op.kernel_rows, leap=op.stride_columns * rows)
            if op.kernel_rows == 1:
                first.rows, first.period = first.leap, None
            dest = Operand(place.buffer, place.token + row * wide, True, rows=op.kernel_columns * rows)
            self._copied(c, node, op, COPY, first, dest, wide * op.kernel_rows, op.kernel_columns * rows, "")

    def _bordered(self, c, node, op, rows: int) -> Operand:
        """The grid with its border."""
        wide, edge, above = op.columns + op.pad_left + op.pad_right, op.pad_left + op.pad_right, op.pad_top
        grid = Buffer(f"{node.name}.grid", rows, wide * (op.rows + op.pad_top + op.pad_bottom))
        source = c.load(node.inputs[0])
        source.rows = op.columns * rows
        runs = [(0, 1, above * wide + op.pad_left), (above * wide + op.pad_left + op.columns, op.rows - 1, edge),
                ((above + op.rows) * wide - op.pad_right, 1, op.pad_right + op.pad_bottom * wide)]
        for first, count, tokens in runs:
            if count and tokens:
                dest = Operand(grid, first, True, rows=wide * rows)
                self._copied(c, node, op, NOTHING, None, dest, count, tokens * rows, ".border")
        inside = Operand(grid, above * wide + op.pad_left, True, rows=wide * rows)
        self._copied(c, node, op, COPY, source, inside, op.rows, op.columns * rows, ".inside")
        return Operand(grid, 0, True)

    @staticmethod
    def _copied(c, node, op, micro: MicroOp, source: Operand | None, dest: Operand, tokens: int, groups: int, what: str) -> None:
        c.emit(node, op, [Body((micro,))], name=f"{node.name}{what}", operands=[source] if source else [], dest=dest,
               tokens=tokens, rest=tokens, groups=groups, lanes=c.machine.lanes, bound=op.o.magnitude,
               traces=("", "") if what else (node.name, ""))
