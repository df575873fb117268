"""Prints the errors of every rule over every input code."""

from ..base.formats import IntFormat
from .accuracy import errors
from .authors import AUTHORS
from .functions import arguments
from .rules import FREE_KNOTS, RULES, fit

INT8 = {frac: IntFormat(8, True, frac) for frac in range(8)}
CASES = (("silu", INT8[4], INT8[4], 17), ("silu", INT8[4], INT8[5], 17), ("silu", IntFormat(12, True, 8), INT8[4], 17),
         ("exp", IntFormat(16, True, 11), INT8[7], 11), ("softplus", INT8[4], INT8[4], 17),
         ("softplus", IntFormat(16, True, 12), INT8[4], 17), ("sigmoid", INT8[4], INT8[7], 17))


def main() -> None:
    print("| function | input | output | rule | knot step | segments | largest error, LSB | from the exact table, LSB | "
          "RMS, LSB | largest error | RMS |\n| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    for name, i, o, segments in CASES:
        for rule in RULES:
            if rule.startswith("authors") and name not in AUTHORS:
                continue
            for knot_step in (1, "auto") if rule in FREE_KNOTS else (1,):
                table = fit(name, i, o, segments, rule, knot_step=knot_step)
                e = errors(table, name, arguments(name))
                print(f"| {name} | {i} | {o} | {rule} | {table.knot_step if knot_step == 'auto' else 1} | {table.segments} | "
                      f"{e['max_lsb']:.2f} | {e['max_table']} | {e['rms_lsb']:.3f} | {e['max_real']:.4f} | {e['rms_real']:.5f} |")


if __name__ == "__main__":
    main()
