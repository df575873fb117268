"""What the benches reach: lines and toggled bits of the generated Verilog, by Verilator; and points of function, counted on the
integer model's values for the same tokens. Of every controller, all states with stalls in each.
"""

import re
import time
from collections import Counter

import numpy as np

from emamba.base.formats import Rounding
from emamba.ops import Activation, LayerNorm, Linear, RangeNorm, Scan
from emamba.piecewise import Segments, codes
from emamba.run.integer import IntegerModel
from rtl.kit import packing
from rtl.kit.block import Spec
from rtl.kit.emit import to_verilog
from sim import cases
from sim.models import SHAPES, random_artifact, random_inputs
from sim.native import NativeSimulation

from . import states as controllers
from .equality import BUILD, Joined
from .targets import BLOCKS, target

OPTIONS = ("--coverage-line", "--coverage-toggle", "-Wno-fatal")
POINT = re.compile(r"^C '(.*)' (\d+)$", re.M)


def toggles(name: str) -> dict:
    """Lines and bits of a block or small model under its bench of stalls; `missed` lines, with a branch that was never taken, and
    `holes`, signals with bits that never moved."""
    case = target(name)
    simulation = NativeSimulation(case.component, BUILD, fast=False, options=OPTIONS)
    words = packing.pack(simulation.i, case.tokens)
    hits: Counter = Counter()
    for seed, percent in ((None, 0), (1, 60), (2, 25)):
        for point, count in POINT.findall(simulation.run(words, seed, percent, idle_cycles=2000).coverage):
            hits[point] += int(count)
    kinds: dict[str, list[bool]] = {"line": [], "toggle": []}
    holes: Counter = Counter()
    missed: set[int] = set()
    for point, count in hits.items():
        fields = dict(part.split("\x02", 1) for part in point.split("\x01") if "\x02" in part)
        page, signal = fields.get("page", ""), fields.get("o", "")
        if page.startswith("v_toggle"):
            kinds["toggle"].append(count > 0)
            if not count:
                holes[re.sub(r"\[.*|:.*", "", signal)] += 1
        elif page.startswith(("v_line", "v_branch")):
            kinds["line"].append(count > 0)
            missed |= {int(fields["l"])} if not count else set()
    text = to_verilog(case.component).splitlines()
    return {
        "block": name,
        **{kind: [sum(found), len(found)] for kind, found in kinds.items()},
        "missed": [text[line - 1].strip() for line in sorted(missed)[:12]],
        "holes": [signal for signal, _ in holes.most_common(4)],
    }


def states() -> list[dict]:
    """Of every stream primitive and block, by `verify.states`."""
    rows = []
    for name, make in (controllers.primitives() | BLOCKS).items():
        start = time.perf_counter()
        made = make()
        made = made.block if isinstance(made, Joined) else made
        found = controllers.walk(made.build() if isinstance(made, Spec) else made)
        rows.append({
            "block": name, "cycles": found.cycles, "registers": found.registers, "points": found.points,
            "seen": found.points - len(found.unseen), "impossible": len(found.unseen) - found.open, "open": found.open,
            "seconds": round(time.perf_counter() - start, 1),
        })
    return rows


def points() -> dict[str, tuple[int, bool]]:
    """How often each point of function occurs in the blocks' benches and in the small models', and whether it must."""
    found: Counter = Counter(dict.fromkeys(WANTED, 0))
    for make in cases.BLOCKS.values():
        block = make()
        if block.op.rounding is Rounding.HALF_UP:
            tokens = cases.tokens_of(block)
            _count(found, block.op, tokens, block.model(*tokens))
    for shape in SHAPES:
        if shape == "standard-thousand":
            continue
        artifact = random_artifact(shape)
        tokens = artifact.codec.encode(random_inputs(artifact.config, 24), artifact.input)
        model = IntegerModel(artifact)
        values = model.run(tokens)
        found["a sequence's first token is its last"] += len(tokens) * (artifact.config.tokens == 1)
        found["a sequence of many tokens"] += len(tokens) * (artifact.config.tokens > 1)
        for node in model.graph.nodes[1:]:
            if node.kind == "Scan":
                states = model.states(node.name, values)
                found["scan: a state below 0"] += int((states < 0).sum())
                found["scan: a state above 0"] += int((states > 0).sum())
    return {name: (count, name not in NEVER) for name, count in found.items()}


NEVER = ("a segment of an activation that no token reaches", "a segment of a scan's exp that no token reaches")
WANTED = (
    "a result clipped at the lower limit", "a result clipped at the upper limit", "RangeNorm: R = 0", "RangeNorm: the largest R",
    "LayerNorm: no variance", "ReLU at 0", "ReLU above 0", "a segment of an activation", "a segment of a scan's exp",
    "scan: δ = 0", "scan: δ > 0", "scan: δ < 0", *NEVER,
)


def _count(found: Counter, op, tokens: list[np.ndarray], y: np.ndarray) -> None:
    if op.o.signed:
        found["a result clipped at the lower limit"] += int((y == op.o.min).sum())
    found["a result clipped at the upper limit"] += int((y == op.o.max).sum())
    match op:
        case Linear(relu=True):
            found["ReLU at 0"] += int((y == 0).sum())
            found["ReLU above 0"] += int((y > 0).sum())
        case RangeNorm():
            span = tokens[0].max(-1) - tokens[0].min(-1)
            found["RangeNorm: R = 0"] += int((span == 0).sum())
            found["RangeNorm: the largest R"] += int((span == op.i.max - op.i.min).sum())
        case LayerNorm():
            found["LayerNorm: no variance"] += int((tokens[0].max(-1) == tokens[0].min(-1)).sum())
        case Activation(segments=Segments()):
            _segments(found, "activation", op.segments, tokens[0], codes(op.i))
        case Scan():
            dt = tokens[1]
            found["scan: δ = 0"] += int((dt == 0).sum())
            found["scan: δ > 0"] += int((dt > 0).sum())
            found["scan: δ < 0"] += int((dt < 0).sum())
            every = codes(op.dt)
            _segments(found, "scan's exp", op.decay, op.read(dt[..., None] * op.A), op.read(every[:, None, None] * op.A))


def _segments(found: Counter, what: str, segments: Segments, x: np.ndarray, every: np.ndarray) -> None:
    """Segments that `x` reaches, of those that `every` input can."""
    reached, wanted = (np.unique(np.searchsorted(segments.knots, part, side="right")) for part in (x, every))
    a = "an" if what[0] in "aeiou" else "a"
    found[f"a segment of {a} {what}"] += len(reached)
    found[f"a segment of {a} {what} that no token reaches"] += len(np.setdiff1d(wanted, reached))
