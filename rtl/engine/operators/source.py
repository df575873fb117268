"""The input stream."""

from emamba.ops import Input as Operator

from ..micro import IDLE, Body
from ..registry import Executor, executes


@executes(Operator)
class Input(Executor):
    """A beat a cycle, as many values as there are post-processors."""

    def compile(self, c, node, op):
        beats = -(-node.width // c.machine.posts)
        place = c.store(node)
        c.emit(node, op, [Body((IDLE,), beats)], groups=1, takes_input=True, operands=[place], dest=place, traces=("", ""))
