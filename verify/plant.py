"""Plants a fault in a class or function: an expression of its source is replaced, found by its syntax and not by its text."""

import ast
import inspect
import sys
import textwrap
from collections import Counter


def plant(thing, old: str, new: str):
    """`thing` with one expression replaced.

    `old` is an expression, found wherever it stands alone, or some operands of a longer chain of one operator: `a & b` is in
    `c & a & d & b`. Or it is an assignment, or `if CONDITION: pass`, of which the condition is replaced. It must occur once.
    """
    tree = ast.parse(textwrap.dedent(inspect.getsource(thing)))
    planter = _Planter(*(ast.parse(text).body[0] for text in (old, new)))
    planter.visit(tree)
    assert planter.found == 1, f"{old!r} occurs {planter.found} times in {thing.__qualname__}"
    space = dict(vars(sys.modules[thing.__module__]))
    exec(compile(ast.fix_missing_locations(tree), f"planted {thing.__qualname__}", "exec"), space)
    return space[thing.__name__]


class _Planter(ast.NodeTransformer):
    def __init__(self, old: ast.stmt, new: ast.stmt):
        self.old = old.value if isinstance(old, ast.Expr) else old
        self.new = new.value if isinstance(new, ast.Expr) else new
        self.found = 0

    def visit(self, node: ast.AST) -> ast.AST:
        if isinstance(node, ast.If) and isinstance(self.old, ast.If) and _same(node.test, self.old.test):
            self.found, node.test = self.found + 1, self.new.test
        elif _same(node, self.old):
            self.found += 1
            return self.new
        elif isinstance(node, ast.BinOp) and isinstance(self.old, ast.BinOp) and isinstance(node.op, type(self.old.op)):
            return self._chain(node)
        return self.generic_visit(node)

    def _chain(self, node: ast.BinOp) -> ast.AST:
        """A chain of operands, in which `old`'s may stand anywhere."""
        operands, wanted = _operands(node, node.op), [ast.dump(part) for part in _operands(self.old, node.op)]
        left = Counter(wanted)
        if left - Counter(map(ast.dump, operands)):
            kept = [self.visit(part) for part in operands]
        else:
            self.found += 1
            kept, placed = [], False
            for part in operands:
                if left[ast.dump(part)]:
                    left[ast.dump(part)] -= 1
                    kept += [] if placed else [self.new]
                    placed = True
                else:
                    kept.append(part)
        whole = kept[0]
        for part in kept[1:]:
            whole = ast.BinOp(whole, node.op, part)
        return whole


def _operands(node: ast.AST, op: ast.operator) -> list[ast.AST]:
    if isinstance(node, ast.BinOp) and isinstance(node.op, type(op)):
        return [*_operands(node.left, op), *_operands(node.right, op)]
    return [node]


def _same(a: ast.AST, b: ast.AST) -> bool:
    return type(a) is type(b) and ast.dump(a) == ast.dump(b)
