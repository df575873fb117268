"""Programs without hardware: the interpreter equals the integer model, and every change of a program is seen."""

from collections.abc import Iterator
from dataclasses import fields, replace
from enum import IntEnum
from pathlib import Path

import numpy as np
import pytest

from emamba.artifact import load
from emamba.config import ModelConfig
from emamba.run.integer import IntegerModel
from rtl.engine.compiler import compile_program
from rtl.engine.interpreter import UNWRITTEN, Interpreter
from rtl.engine.machine import Machine
from rtl.engine.micro import IDLE, A, B, Instruction, MicroOp, Zero
from sim.models import SHAPES, random_artifact, random_inputs

SAME = {
    "block0.y[0][2].first", "block0.y[2][0].first", "block0.y[2][0].acc",  # a decay is of the product, not of the sum
    "block0.y[2][1].at_last",  # nothing is captured
    "block0.y[2][2].a",  # the multipliers are wide, so that the state is not split
    "block0.y[2].rewind",  # a group's states begin there
    "block0.y[5][0].a", "block0.y[5][0].b", "block0.y[5][0].constant",  # a product with 0
    "pool.tokens", "head.tokens", "block0.x.history.rest",  # tiles in which they do not run
    "block0.x.history[0][0].zero",  # one token lies before the sequence
}
"""Changes without an effect."""


def differs(program, tokens, expected) -> bool:
    try:
        found = Interpreter(program).run(tokens)
    except (ArithmeticError, AttributeError, IndexError, KeyError, TypeError, ValueError):
        return True
    return any(value.shape != expected[name].shape or (value != expected[name]).any() for name, value in found.items())


@pytest.mark.parametrize(("shape", "machine"), [
    ("emamba-image", Machine(5, 1, 16)), ("standard-rms-norm", Machine(2, 2, 18)),
    ("standard-rms-norm", Machine(4, 1, 16, tile=2, small=True)), ("standard-image", Machine(3, 1, tile=2)),
    ("pointwise-gated-pool", Machine(8, 2, tile=4)), ("hybrid-attention", Machine(3, 1))])
def test_interpreter(shape, machine):
    artifact = random_artifact(shape, 1)
    tokens = artifact.codec.encode(random_inputs(artifact.config, 3), artifact.input)
    assert not differs(compile_program(artifact, machine), tokens, IntegerModel(artifact).run(tokens))


def test_rows_without_values():
    """Of every beat of a row, the rows from which on none is written: a chip has no latches there."""
    artifact = random_artifact("standard-rms-norm", 1)
    program = compile_program(artifact, Machine(8, 1, tile=2))
    interpreter = Interpreter(program)
    interpreter.run(artifact.codec.encode(random_inputs(artifact.config, 3), artifact.input))
    written = (interpreter.values != UNWRITTEN).any(1)  # [rows, lanes]
    assert program.depths == [written.shape[0] - int(lane[::-1].argmax()) if lane.any() else 0 for lane in written.T]
    assert len(set(program.depths)) > 1


def test_shipped_model_of_one_token():
    artifact = load(Path("models/radhar_stream"))
    tokens = np.random.default_rng(0).integers(artifact.input.min, artifact.input.max + 1, (4, 1, artifact.config.input_width))
    assert not differs(compile_program(artifact, Machine(12)), tokens, IntegerModel(artifact).run(tokens, window=1))


def test_every_change_is_seen():
    """Of fields of instructions, bodies and micro-operations that are read."""
    artifact = random_artifact(ModelConfig(**SHAPES["emamba-three-blocks"] | {"blocks": 1, "length": 4, "d_state": 3}))
    program = compile_program(artifact, Machine(3, 1, tile=2))
    tokens = artifact.codec.encode(random_inputs(artifact.config, 8), artifact.input)
    expected, same, count = IntegerModel(artifact).run(tokens), set(), 0
    tried = [*changes(program.instructions)][::3]  # a third of them, to save time
    for instruction, field, value, name in tried:
        before = getattr(instruction, field)
        setattr(instruction, field, value)
        same |= set() if differs(program, tokens, expected) else {name}
        setattr(instruction, field, before)
        count += 1
    assert same == SAME & {name for *_, name in tried} and count > 85 and not differs(program, tokens, expected)


def changes(instructions: list[Instruction]) -> Iterator[tuple[Instruction, str, object, str]]:
    for i in (i for i in instructions if not i.takes_input):
        found = {"shift": i.shift + 1, "groups": i.groups - 1, "tokens": i.tokens - 1, "rest": i.rest - 1}
        found |= {"bias": None} if i.bias is not None else {}
        found |= {"table": None} if i.table is not None else {}
        found |= {"before": 0} if i.before else {}
        yield from ((i, field, value, f"{i.name}.{field}") for field, value in found.items())
        for b, body in enumerate(i.chain):
            others = {}
            for n, op in enumerate(body.ops):
                others |= {f"[{n}].{field}": replace(body, ops=(*body.ops[:n], replace(op, **{field: value}), *body.ops[n + 1:]))
                           for field, value in changed(op, body.steps, len(i.operands))}
            if body.steps > 1 and body.ops != (IDLE,):
                others[".steps"] = replace(body, steps=body.steps - 1)
            if any(op.state for op in body.ops):
                others[".rewind"] = replace(body, rewind=not body.rewind)
            yield from ((i, "chain", [*i.chain[:b], other, *i.chain[b + 1:]], f"{i.name}[{b}]{what}")
                        for what, other in others.items())


def changed(op: MicroOp, steps: int, operands: int) -> Iterator[tuple[str, object]]:
    """Other values of the fields that the micro-operation reads."""
    unread = {"indexed", "packed", "state"} | ({"weight"} if not op.weight else set())
    unread |= {"constant"} if not op.works or (A.CONSTANT is not op.a and B.CONSTANT is not op.b) else set()
    unread |= {"acc", "at_last", "skip"} if steps == 1 or not op.works else set()
    unread |= {"a", "b", "first"} if not op.works else set()
    unread |= {"zero"} if op.zero is Zero.NEVER else set()
    for field in fields(op):
        value = getattr(op, field.name)
        if op == IDLE or field.name in unread or value is None:
            continue
        if isinstance(value, IntEnum):
            yield field.name, type(value)((value + 1) % len(type(value)))
        elif isinstance(value, bool):
            yield field.name, not value
        elif field.name == "constant":
            yield field.name, value + 1
        elif field.name == "x" and operands > 1:
            yield field.name, (value + 1) % operands
