"""Which executor turns which operator into instructions."""

from collections.abc import Callable

from emamba.base.errors import DesignLimit
from emamba.graph import Node
from emamba.graph.own import import_named
from emamba.ops import Operator
from emamba.ops.base import one_of


class Executor:
    """What is known of an operator. `history`: earlier tokens of its inputs that it reads; `one_token`: a tile has one."""

    one_token = False

    def history(self, node: Node, op: Operator) -> int:
        return 0

    def compile(self, c, node: Node, op: Operator) -> None:
        """Emits the node's instructions by the compiler `c` (`rtl.engine.compiler.Compiler`), or refuses it."""
        raise NotImplementedError


EXECUTORS: dict[type[Operator], Executor] = {}


def executes(*kinds: type[Operator]) -> Callable[[type[Executor]], type[Executor]]:
    """Registers an executor for operators of exactly these kinds."""
    def register(executor: type[Executor]) -> type[Executor]:
        EXECUTORS.update(dict.fromkeys(kinds, executor()))
        return executor
    return register


def executor_of(node: Node, op: Operator) -> Executor:
    if type(op) not in EXECUTORS:
        import_named()
    if type(op) not in EXECUTORS:
        raise DesignLimit(f"node '{node.name}': the engine has no instructions for {one_of(type(op))}; build it with "
                          "--organization pipeline, or register an executor with rtl.engine.registry.executes")
    return EXECUTORS[type(op)]
