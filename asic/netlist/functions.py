"""The functions of cells: read from Liberty, written as expressions of Verilog, C and Python, evaluated."""

import re
import reprlib

from emamba.base.errors import InputError

NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
"""Names of cells and pins, which become words of scripts, of Verilog and of C."""

PARTS = re.compile(r"\s*([A-Za-z_]\w*|[01]|[()!'^&*|+])")


def expression(text: str, where: str) -> str:
    """A Liberty function as an expression that Verilog, C and Python read alike, with every operation in parentheses."""
    parts, at = [], 0
    while at < len(text.rstrip()):
        match = PARTS.match(text, at)
        if not match:
            raise InputError(f"{where}: the function '{text}' cannot be read")
        parts.append(match[1])
        at = match.end()

    def either():
        value = both()
        while parts and parts[0] in "|+":
            parts.pop(0)
            value = f"({value} | {both()})"
        return value

    def both():
        value = differ()
        while parts and parts[0] not in "|+)":
            if parts[0] in "&*":
                parts.pop(0)
            value = f"({value} & {differ()})"
        return value

    def differ():
        value = single()
        while parts and parts[0] == "^":
            parts.pop(0)
            value = f"({value} ^ {single()})"
        return value

    def single():
        if not parts:
            raise InputError(f"{where}: the function '{text}' ends too early")
        part = parts.pop(0)
        if part == "!":
            value = f"(~{single()})"
        elif part == "(":
            value = either()
            if not parts or parts.pop(0) != ")":
                raise InputError(f"{where}: the function '{text}' lacks a ')'")
        else:
            value = {"0": "ZERO", "1": "(~ZERO)"}.get(part, part)
        while parts and parts[0] == "'":
            parts.pop(0)
            value = f"(~{value})"
        return value

    try:
        value = either()
    except RecursionError:
        raise InputError(f"{where}: the function {reprlib.repr(text)} is nested too deeply") from None
    if parts:
        raise InputError(f"{where}: the function '{text}' has '{parts[0]}' where it should end")
    return value


def evaluate(function: str, values: dict[str, int]) -> int:
    """A function's bit for bits of its inputs."""
    return eval(re.sub(r"[A-Za-z_]\w*", lambda match: str(values[match[0]]), function)) & 1


def is_nand(function: str, inputs: list[str]) -> bool:
    a, b = inputs
    return all(evaluate(function, {a: x, b: y}) == 1 - x * y for x in (0, 1) for y in (0, 1))
