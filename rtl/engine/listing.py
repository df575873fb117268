"""A program that a person can read."""

from dataclasses import replace

from .compiler import Program
from .micro import IDLE, A, B, Body, Instruction, MicroOp, Operand, Stat, To, When, Zero


def listing(program: Program) -> str:
    """A line an instruction, and below it a line a body: how often it runs, and its micro-operations."""
    machine = program.machine
    lines = [f"{machine.lanes} lanes, {machine.posts} post-processors; {program.tiles} tiles of {program.tile} tokens; "
             f"{program.rows} rows of values, "
             + ("weights streamed" if machine.stream else f"{len(program.weights)} of weights") + f", {program.states} of states"]
    for number, i in enumerate(program.instructions):
        lines.append(f"{number:3} {i.name}: {_head(i, program, number)}")
        if i.second is not None:
            lines.append(f"    {i.second.name} in its other lanes: {_head(replace(i.second, weights=None), program, number)}")
        lines += [f"      {_body(body)}" for body in i.chain if not i.takes_input]
    return "\n".join([*lines, ""])


def _head(i: Instruction, program: Program, number: int) -> str:
    tokens = f"{i.tokens} tokens" + f" ({i.rest} in the last tile)" * (i.rest != i.tokens)
    words = [f"{tokens} × {i.groups} rows × {i.group_cycles} cycles"]
    words += [f"x{k} = {_operand(operand)}" for k, operand in enumerate(i.operands) if not i.takes_input]
    if i.weights is not None and not program.machine.stream:
        words.append(f"weights from {program.weight_base[number]}")
    if i.dest is not None:
        words.append(f"to {_operand(i.dest)}")
    if i.drains:
        words.append(f">> {i.shift} to {i.format}" + (" with bias" if i.bias is not None else ""))
    words += ["then a table"] * (i.table is not None) + [f"statistics: {i.stat.name.lower()}"] * (i.stat is not Stat.NONE)
    words += ["to the output"] * i.out + [f"{i.when.name.lower()} tiles"] * (i.when is not When.ALWAYS)
    words += [f"after {i.gap} idle"] * bool(i.gap)
    return ", ".join(words)


def _operand(operand: Operand) -> str:
    buffer = operand.buffer
    return f"{buffer.name}[{operand.base}..+{buffer.rows}]" + f" {operand.walk.name.lower()}" * bool(operand.walk)


def _body(body: Body) -> str:
    times = f"{body.steps} × " if body.steps > 1 else ""
    if body.ops == (IDLE,):
        return f"{times}idle"
    return times + "; ".join(map(_micro, body.ops)) + (", from the first state" if body.rewind else "")


def _micro(op: MicroOp) -> str:
    if op == IDLE:
        return "idle"
    if op.to is To.ROW:
        return f"kept = x{op.x}" + f" << {op.constant}" * bool(op.constant)
    names = {A.WEIGHT: "w", A.CONSTANT: str(op.constant), A.CHANNEL: f"x{op.x}.c", A.ENTRY: "entry"}
    others = {B.ROW: f"x{op.x}", B.CHANNEL: f"x{op.x}.c", B.CONSTANT: str(op.constant)}
    product = f"{names.get(op.a, op.a.name.lower())}·{others.get(op.b, op.b.name.lower())}"
    start = op.first.name.lower() + (f"/{op.acc.name.lower()}" if op.acc is not op.first else "")
    to = f" → {op.to.name.lower()}" + " at last" * op.at_last if op.to else ""
    return f"{start} {product}{to}" + f" (0 {op.zero.name.lower()})" * (op.zero is not Zero.NEVER) + " but last" * op.skip
