"""The figures of the sections as rows of one table: property, method, bound, time, result; and what a result needs explained."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

HEADING = """\
# Verification

Written by `make verify`; the same figures are in `verification.json`. Times are those of the run, on whatever else the machine
did, and say nothing but how much work a check is. What a check does and why that is enough stands at the head of its file in
`verify/`. `make test` runs a short form of most.

- PDR, SAT: proven by ABC, for registers in any state and one cycle of reset. Order of a stream: valid stays, the payload holds,
  the n-th item that leaves is the n-th that entered, and nothing is lost, doubled or made up. Progress: with partners that wait
  at most one cycle, something moves within a bound. In the proofs of blocks, products and requantized values are free; a scan
  and a norm are compared with a copy of their control, made of proven parts.
- Planted fault: one expression of the source is replaced; the check must notice.
- Mutants: changes of single wires and cells by Yosys `mutate`, or of one node of Python's syntax tree. Killed: a wrong value, a
  wrong cycle, a difference under stalls or after a reset, or a stop. Equal: proven by PDR, for the changed module or one around
  it and any input, or explained below, to change nothing that can be seen.
"""


LINES, KILLED = 0.98, 0.97
"""Least share of lines that a bench must reach, and of mutants that differ that it must kill."""


@dataclass
class Row:
    """One property. `seconds` None: it was found with the row above."""

    property: str
    method: str
    bound: str
    seconds: float | None
    result: str
    holds: bool
    notes: list[str] = field(default_factory=list)


def _proofs(what: str, method: str, bound: str) -> Callable[[list[dict]], Iterator[Row]]:
    def rows(figures: list[dict]) -> Iterator[Row]:
        for each in figures:
            yield Row(f"{what}: {each['property']}", method, bound, each["seconds"], each["result"], each["result"] == "proven")

    return rows


def _planted(figures: list[dict]) -> Iterator[Row]:
    for each in figures:
        result = "caught" if each["caught"] else "MISSED"
        yield Row(f"planted fault, {each['fault']}", each["check"], "one line", each["seconds"], result, each["caught"])


def _units(figures: list[dict]) -> Iterator[Row]:
    for each in figures:
        result = f"{each['cases']:,} cases, {each['different']} different"
        yield Row(each["property"], "Verilated, against `emamba.ops`", each["bound"], each["seconds"], result,
                  each["cases"] > 0 and not each["different"])


def _certificates(figures: list[dict]) -> Iterator[Row]:
    for each in figures:
        result = (f"reached {each['widest']:,} of {each['bound']:,} ≤ {each['limit']:,}, and {each['deepest']:,} of "
                  f"{each['stored']:,} ≤ {each['limit_stored']:,}")
        yield Row(f"no state overflows: {each['model']}, {each['scan']}", f"{each['cases']:,} cases, as an induction over tokens",
                  "input of any length", each["seconds"], result, each["holds"])


def _depths(figures: list[dict]) -> Iterator[Row]:
    for each in figures:
        result = f"{each['shallow']} of {each['fifos']} too shallow, {each['loose']} too deep"
        yield Row(f"FIFO depths of MARS, T = {each['rate']}", "each FIFO stepped through the schedule",
                  f"{each['pushes']:,} pushes", each["seconds"], result, not each["shallow"] and not each["loose"])


def _survivors(equal: dict[str, str], alive: list[str]) -> list[str]:
    return [f"`{text}` is equal: {why}" for text, why in equal.items()] + [f"`{text}` is alive" for text in alive]


def _arithmetic(figures: dict) -> Iterator[Row]:
    alive, count = figures["alive"], figures["mutants"]
    result = f"{figures['killed']} killed, {len(figures['equal'])} equal, {len(alive)} alive"
    notes = _survivors(figures["equal"], alive)
    yield Row("mutants of `emamba/base/arithmetic.py`", "a second computation in exact fractions", f"all {count} single changes",
              figures["seconds"], result, not alive, notes)


def _mutants(figures: list[dict]) -> Iterator[Row]:
    for each in figures:
        equal, alive = each["proven"] + len(each["explained"]), each["alive"]
        killed, real = each["killed"], each["mutants"] - equal
        kills = ", ".join(f"{count} by {kind}" for kind, count in sorted(each["kills"].items()))
        notes = _survivors(each["explained"], alive)
        result = (f"{killed} killed ({kills}), {each['proven']} proven equal, {len(each['explained'])} explained, "
                  f"{len(alive)} alive: {killed / max(1, real):.1%}")
        yield Row(f"mutants of {each['block']}", "its bench; PDR for the others", f"{each['mutants']} by Yosys, at random",
                  each["seconds"], result, killed >= KILLED * real, notes)
    mutants, killed, proven = (sum(each[key] for each in figures) for key in ("mutants", "killed", "proven"))
    equal = proven + sum(len(each["explained"]) for each in figures)
    yield Row("mutants of all blocks and a small model", "the rows above", f"{mutants} mutants", None,
              f"{killed} of {mutants - equal} that are not equal, {killed / max(1, mutants - equal):.1%}",
              killed >= KILLED * (mutants - equal))


def _fuzz(figures: list[dict]) -> Iterator[Row]:
    for each in figures:
        yield Row(f"mutated {each['kind']} give a sentence, or are what they say", "what loads is saved, scheduled and run",
                  f"{each['cases']:,} files, {each['limits'][0]} s and {each['limits'][1]} GB each", each["seconds"],
                  f"{each['refused']:,} refused, {each['loaded']:,} loaded, {len(each['faults'])} faults"
                  + (f", slowest {each['slowest']} s" if "slowest" in each else ""), not each["faults"],
                  each["faults"][:50])


def _shapes(figures: dict) -> Iterator[Row]:
    refused = [each["refused"] for each in figures["models"] if "refused" in each]
    models = [each for each in figures["models"] if "refused" not in each]
    wrong = sum(not each["right"] or each["undefined"] > 0 for each in models)
    beats = sum(each["beats"] for each in models)
    yield Row("models of random shape, form, norm, pool and folding equal their integer model",
              "from random float weights to Verilog in Icarus, X at power-up, stalls", f"{len(models)} models, {beats:,} beats",
              figures["seconds"], f"{wrong} wrong; {len(refused)} more refused by the quantizer", len(models) > 0 and not wrong,
              [f"refused: {error}" for error in dict.fromkeys(refused)])


def _abuse(figures: list[dict]) -> Iterator[Row]:
    of = {each["kind"]: each for each in figures}
    resets, stalls, undefined, upsets, soak = (of[key] for key in ("resets", "stalls", "undefined", "upsets", "soak"))
    small = f"on {resets['on']}"
    yield Row("a reset leaves nothing behind", f"native simulation, {small}",
              f"in each of {resets['cycles']} cycles, with and without stalls", resets["seconds"], f"{resets['wrong']} wrong",
              not resets["wrong"])
    wrong = sum(rate["wrong"] for rate in stalls["rates"])
    percents = ", ".join(str(rate["percent"]) for rate in stalls["rates"])
    yield Row("stalls change no value", f"native simulation, {small}", f"{percents} % of the cycles on both ports, 3 runs each",
              stalls["seconds"], f"{wrong} wrong", not wrong)
    yield Row("no X after a reset, whatever registers and memories held", f"Icarus, {small}",
              f"{undefined['beats']} beats, under stalls", undefined["seconds"],
              f"{undefined['undefined']} undefined, {'right' if undefined['right'] else 'WRONG'}",
              undefined["right"] and not undefined["undefined"])
    yield Row("an upset bit is gone after a reset", f"one bit for one cycle, any wire or memory port, {small}",
              f"{upsets['upsets']} upsets, 8 frames each", upsets["seconds"],
              f"{upsets['no effect']} change nothing, {upsets['passing']} up to {upsets['longest']} frames, "
              f"{upsets['until reset']} all until the reset, {upsets['wrong after a reset']} wrong after it",
              not upsets["wrong after a reset"])
    parity = of["parity"]
    result = (f"{parity['wrong']} wrong answers, {parity['wrong unseen']} of them not counted; {parity['seen']} flips counted; "
              f"{parity['wrong later']} wrong after a reset")
    yield Row("with parity, no flipped bit of a memory makes a wrong answer that is not counted",
              "the AXI system of a very small model in Amaranth's simulator",
              f"{parity['flips']} flips in {parity['memories']} memories", parity["seconds"], result,
              not parity["wrong unseen"] and not parity["wrong later"])
    yield Row("a long run equals the integer model", f"native simulation, {soak['model']}",
              f"{soak['tokens']:,} tokens, {soak['cycles']:,} cycles", soak["seconds"],
              f"SHA-256 {soak['digest']}… {'equal' if soak['equal'] else 'DIFFERENT'}", soak["equal"])


def _traffic(figures: list[dict]) -> Iterator[Row]:
    for each in figures:
        unexpected = each["unexpected"]
        yield Row(f"the register page foretells what random traffic does: {each['design']}",
                  "native simulation, every order of events that cannot be seen", f"{each['operations']:,} operations",
                  each["seconds"], "one answer not foretold" if unexpected else "0 answers not foretold", not unexpected,
                  [unexpected] if unexpected else [])


def _coverage(figures: list[dict]) -> Iterator[Row]:
    for each in figures:
        shares = [f"{hit:,} of {total:,} ({hit / max(1, total):.1%})" for hit, total in (each["line"], each["toggle"])]
        holes = ", ".join(f"`{name}`" for name in each["holes"])
        notes = [f"a branch that the values of this block cannot take, or not in this bench: `{line}`" for line in each["missed"]]
        notes += [f"bits that never moved, most of them in: {holes}"] * bool(holes)
        yield Row(f"coverage of {each['block']}", "Verilator, under the mutants' bench", "lines; toggled bits", each["seconds"],
                  "; ".join(shares), each["line"][0] >= LINES * each["line"][1], notes)


def _states(figures: list[dict]) -> Iterator[Row]:
    for each in figures:
        yield Row(f"states of the controllers of {each['block']}, and stalls of each port in each",
                  "Amaranth's simulator; PDR for what was not seen", f"{each['cycles']:,} cycles, {each['registers']} registers",
                  each["seconds"], f"{each['points']:,} points: {each['seen']:,} seen, {each['impossible']:,} proven impossible, "
                  f"{each['open']} open", not each["open"])


def _points(figures: dict) -> Iterator[Row]:
    for name, (count, wanted) in figures.items():
        yield Row(f"point of function: {name}", "integer model's values in the benches", "small models and directed tokens", None,
                  f"{count:,}", (count > 0) is wanted)


ROWS: dict[str, Callable[..., Iterator[Row]]] = {
    "planted": _planted,
    "streams": _proofs("stream", "PDR", "any data, stalls and time"),
    "blocks": _proofs("block", "PDR", "any data, stalls and time"),
    "definitions": _proofs("definition", "SAT", "every input"),
    "units": _units,
    "certificates": _certificates,
    "depths": _depths,
    "arithmetic": _arithmetic,
    "mutants": _mutants,
    "fuzz": _fuzz,
    "shapes": _shapes,
    "abuse": _abuse,
    "traffic": _traffic,
    "coverage": _coverage,
    "states": _states,
    "points": _points,
}


def rows(figures: dict) -> list[Row]:
    """Of every section that has figures."""
    return [row for name, make in ROWS.items() if name in figures for row in make(figures[name])]


def page(found: list[Row]) -> str:
    unknown, bad = sum("unknown" in row.result for row in found), sum(not row.holds for row in found)
    lines = [HEADING, f"{len(found)} properties; {bad} do not hold, of which {unknown} unknown.", "",
             "| property | method | bound | time, s | result |", "| --- | --- | --- | --- | --- |"]
    for row in found:
        time = "" if row.seconds is None else f"{row.seconds:.1f}"
        result = row.result if row.holds else f"**{row.result}**"
        lines.append(f"| {row.property} | {row.method} | {row.bound} | {time} | {result} |")
    for row in found:
        if row.notes:
            lines += ["", f"{row.property[0].upper()}{row.property[1:]}:", "", *(f"- {note}" for note in row.notes)]
    return "\n".join([*lines, ""])
