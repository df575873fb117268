# amaranth: UnusedElaboratable=no
"""What the benches reach: lines and toggled bits of the generated Verilog, by Verilator; and points of function, counted on the
integer model's values for the same tokens.
"""

import re
from collections import Counter

import numpy as np

from emamba.integer import IntegerModel
from emamba.operators import Activation, Linear, RangeNorm, Scan
from rtl import packing
from sim.models import SHAPES, random_artifact, random_inputs
from sim.native import NativeSimulation

from .equality import BUILD
from .mutants import target

OPTIONS = ("--coverage-line", "--coverage-toggle", "-Wno-fatal")
POINT = re.compile(r"^C '(.*)' (\d+)$", re.M)


def toggles(name: str) -> dict:
    """Lines and bits of a block or small model under its bench of stalls; `holes` names signals with bits that never moved."""
    case = target(name)
    simulation = NativeSimulation(case.component, BUILD, fast=False, options=OPTIONS)
    words = packing.pack(simulation.i, case.tokens)
    hits: Counter = Counter()
    for seed, percent in ((None, 0), (1, 60), (2, 25)):
        for point, count in POINT.findall(simulation.run(words, seed, percent, idle_cycles=2000).coverage):
            hits[point] += int(count)
    kinds: dict[str, list[bool]] = {"line": [], "toggle": []}
    holes: Counter = Counter()
    for point, count in hits.items():
        fields = dict(part.split("\x02", 1) for part in point.split("\x01") if "\x02" in part)
        page, signal = fields.get("page", ""), fields.get("o", "")
        if page.startswith("v_toggle"):
            kinds["toggle"].append(count > 0)
            if not count:
                holes[re.sub(r"\[.*|:.*", "", signal)] += 1
        elif page.startswith(("v_line", "v_branch")):
            kinds["line"].append(count > 0)
    return {
        "block": name,
        **{kind: [sum(found), len(found)] for kind, found in kinds.items()},
        "holes": [signal for signal, _ in holes.most_common(4)],
    }


def points() -> dict[str, int]:
    """How often each point of function occurs in the small models' benches."""
    found: Counter = Counter()
    for shape in SHAPES:
        if shape == "standard-thousand":
            continue
        artifact = random_artifact(shape)
        config, i = artifact.config, artifact.input
        tokens = artifact.codec.encode(random_inputs(config, 24), i)
        rng = np.random.default_rng(1)
        tokens[::3] = rng.choice([i.min, i.max], tokens[::3].shape)
        tokens[1::6] = i.max if config.input != "tokens" else 0
        model = IntegerModel(artifact)
        values = model.run(tokens)
        found["sequence of one token: first is last"] += len(tokens) * (config.tokens == 1)
        found["sequence of many tokens"] += len(tokens) * (config.tokens > 1)
        for node in model.graph[1:]:
            op, y = artifact.operators[node.name], values[node.name]
            found["saturation below"] += int((y == op.o.min).sum()) if op.o.signed else 0
            found["saturation above"] += int((y == op.o.max).sum())
            if isinstance(op, Linear) and op.relu:
                found["ReLU at 0"] += int((y == 0).sum())
                found["ReLU above 0"] += int((y > 0).sum())
            if isinstance(op, RangeNorm):
                x = values[node.inputs[0]]
                span = x.max(-1) - x.min(-1)
                found["RangeNorm: R = 0"] += int((span == 0).sum())
                found["RangeNorm: R > 0"] += int((span > 0).sum())
            if isinstance(op, Activation) and op.segments:
                _segments(found, op.segments, values[node.inputs[0]])
            if isinstance(op, Scan):
                dt = values[node.inputs[1]]
                found["scan: δ = 0 holds the state"] += int((dt == 0).sum()) * op.hold
                found["scan: δ > 0"] += int((dt > 0).sum())
                states = model.states(node.name, values)
                found["scan: state below 0"] += int((states < 0).sum())
                found["scan: state above 0"] += int((states > 0).sum())
    return dict(found)


def _segments(found: Counter, segments, x: np.ndarray) -> None:
    piece = np.searchsorted(segments.knots, x, side="right")
    acting = [
        k
        for k in range(len(segments.knots) + 1)
        if (k == 0 or segments.knots[k - 1] <= segments.i.max)
        and (k == len(segments.knots) or segments.knots[k] > segments.i.min)
    ]
    hit = set(np.unique(piece).tolist())
    found["activation segments reached"] += len(hit & set(acting))
    found["activation segments not reached"] += len(set(acting) - hit)
