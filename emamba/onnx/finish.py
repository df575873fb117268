"""From drafts to a graph: scales and offsets that are left go to norms, weights, the codec, or a convolution of one tap."""

import re
from collections import Counter

import numpy as np

from ..base.errors import InputError
from ..graph import Builder, Graph
from ..graph.ir import MOST_NODES, NAME
from ..ops import OPERATORS
from .values import Array, Draft, Stream

RESIDUAL = ("Scan", "HeadScan", "Multiply", "Add")
"""Kinds whose values are on the residual path, as the builder's are."""


def finish(output: Stream) -> tuple[Graph, dict[str, Array], dict[str, Array | None]]:
    """The graph, its tensors, and mean, std, scale, offset of its codec."""
    codec: dict[str, Array | None] = {"scale": None, "offset": None, "mean": None, "std": None}
    if output.draft.plain:
        draft, scale, offset = output.draft.plain
        output = output.of(draft)
        codec |= {"scale": scale, "offset": offset}
    else:
        codec |= {"scale": output.scale, "offset": output.offset}
    drafts = _order(output.draft)
    if not 1 < len(drafts) <= MOST_NODES:
        raise InputError(f"it makes {len(drafts)} nodes; 2 to {MOST_NODES} are possible")
    codec |= _input_scale(drafts)
    norms = _fold_norms(drafts, output.draft)
    drafts = _placed(drafts, norms)
    graph, tensors = _built(drafts, output.draft)
    return graph, tensors, codec


def _order(output: Draft) -> list[Draft]:
    """All that an output is computed from, in the order in which it was made."""
    found: dict[int, Draft] = {}
    stack = [output]
    while stack:
        draft = stack.pop()
        if id(draft) not in found:
            found[id(draft)] = draft
            stack += [source.draft for source in draft.inputs]
    return sorted(found.values(), key=lambda draft: draft.number)


def _input_scale(drafts: list[Draft]) -> dict[str, Array]:
    """Mean and std, where every reader of the input takes the same of them."""
    edges = [(draft, k) for draft in drafts for k, source in enumerate(draft.inputs) if source.draft.kind == "Input"]
    first = edges[0][0].inputs[edges[0][1]]
    if first.affine == (None, None) or len({draft.inputs[k].affine for draft, k in edges}) > 1 or \
            (first.scale is not None and (first.scale <= 0).any()):
        return {}
    for draft, k in edges:
        draft.inputs[k] = draft.inputs[k].of(first.draft)
    scale = np.ones(first.draft.width) if first.scale is None else first.scale
    return {"std": 1 / scale, "mean": np.zeros(first.draft.width) if first.offset is None else -first.offset / scale}


def _fold_norms(drafts: list[Draft], output: Draft) -> set[int]:
    """Gives each norm the weight and bias that all of its readers apply, if they are Linears that can fold them. Returns the
    Linears that do."""
    norms: dict[int, Draft] = {}
    edges: dict[int, list[tuple[Draft, int]]] = {}
    can: dict[int, set[str]] = {}
    for draft in drafts:
        kind = OPERATORS[draft.kind]
        commutes = kind.commutes and draft.inputs[0].affine == (None, None)
        for k, source in enumerate(draft.inputs):
            norm = norms.get(id(source.draft))
            if norm is not None and commutes and k == 0:
                norms[id(draft)] = norm
                can[id(norm)] &= set(kind.commutes)
            elif norm is not None:
                edges[id(norm)].append((draft, k))
        if kind.normalizes:
            norms[id(draft)], edges[id(draft)] = draft, []
            can[id(draft)] = {"weight"} if draft.kind == "RMSNorm" else {"weight", "bias"}
    folding: set[int] = set()
    for norm in {id(draft): draft for draft in norms.values()}.values():
        readers = [(draft, k, draft.inputs[k]) for draft, k in edges[id(norm)]]
        if norms.get(id(output)) is norm or len({source.affine for _, _, source in readers}) != 1:
            continue
        first = readers[0][2]
        wanted = {name: value for name, value in (("weight", first.scale), ("bias", first.offset)) if value is not None}
        if wanted and set(wanted) <= can[id(norm)] and all(OPERATORS[draft.kind].folds for draft, _, _ in readers):
            norm.parameters = wanted
            for draft, k, source in readers:
                draft.inputs[k] = source.of(source.draft)
                folding.add(id(draft))
    return folding


def _placed(drafts: list[Draft], folding: set[int]) -> list[Draft]:
    """With the scales and offsets that are left in the weights of who reads them, or in convolutions of one tap."""
    placed: list[Draft] = []
    made: dict[tuple, Draft] = {}
    for draft in drafts:
        for k, source in enumerate(draft.inputs):
            if source.affine == (None, None):
                continue
            if OPERATORS[draft.kind].folds and id(draft) not in folding:
                weight = draft.parameters["weight"]
                if source.offset is not None:
                    draft.parameters["bias"] = draft.parameters.get("bias", 0.0) + weight @ source.offset
                if source.scale is not None:
                    draft.parameters["weight"] = weight * source.scale
                draft.inputs[k] = source.of(source.draft)
                continue
            key = id(source.draft), source.affine
            if key not in made:
                width = source.draft.width
                scale = np.ones(width) if source.scale is None else source.scale
                made[key] = Draft("Conv1d", [source.of(source.draft)], width, source.draft.tokens, {"taps": 1},
                                  {"weight": scale[:, None]} | ({} if source.offset is None else {"bias": source.offset}),
                                  [f"{name}_scaled" for name in source.draft.names])
                placed.append(made[key])
            draft.inputs[k] = source.of(made[key])
        placed.append(draft)
    return placed


# -- nodes --------------------------------------------------------------------------------------------------------------------


def _built(drafts: list[Draft], output: Draft) -> tuple[Graph, dict[str, Array]]:
    names = _names(drafts)
    deltas = {id(draft.inputs[1].draft) for draft in drafts if draft.kind in ("Scan", "HeadScan")}
    readers = _readers(drafts)
    g, tensors = Builder.bare(), {}
    for draft in drafts:
        name, inputs = names[id(draft)], [names[id(source.draft)] for source in draft.inputs]
        role, attributes = _role(draft, readers, deltas, output), dict(draft.attributes)
        if role == "delta" and not (draft.kind == "Activation" or attributes.get("function") == "relu"):
            raise InputError(f"node '{name}': a scan takes it as δ, but its values, of the kind {draft.kind}, may be negative; a "
                             "Softplus or a Relu must give them")
        if draft.kind == "Linear":
            if role == "delta":
                attributes["delta"] = "relu"
            elif any(reader.attributes.get("function") == "softplus" for reader in readers[id(draft)]):
                attributes["delta"] = "softplus"
            g.linear(name, inputs[0], draft.width, bias="bias" in draft.parameters, role=role, **attributes)
        elif draft.kind == "Input":
            g.add("Input", name, (), draft.width, parameters=(), tokens=draft.tokens, role="stem", **attributes)
        else:
            g.add(draft.kind, name, inputs, draft.width, parameters=draft.parameters, role=role, **attributes)
        for parameter, value in draft.parameters.items():
            tensors[f"{name}.{parameter}"] = np.ascontiguousarray(value, np.float32)
            if not np.isfinite(tensors[f"{name}.{parameter}"]).all():
                raise InputError(f"node '{name}': its {parameter} holds values beyond float32: rescale the weights")
    return Graph(tuple(g.nodes.values()), (names[id(output)],)), tensors


def _readers(drafts: list[Draft]) -> dict[int, list[Draft]]:
    found: dict[int, list[Draft]] = {id(draft): [] for draft in drafts}
    for draft in drafts:
        for source in draft.inputs:
            found[id(source.draft)].append(draft)
    return found


def _role(draft: Draft, readers: dict[int, list[Draft]], deltas: set[int], output: Draft) -> str:
    """As the builder gives it."""
    own = readers[id(draft)]
    if draft is output or (output.kind in ("Smooth", "Pool") and own == [output]):
        return "head"
    if id(draft) in deltas:
        return "delta"
    if _is_stem(draft):
        return "stem"
    last = draft
    while len(own) == 1 and own[0].kind == "Reverse":
        last, own = own[0], readers[id(own[0])]
    if draft.kind in ("Linear", "Add") and len(own) == 1 and own[0].kind == "Add":
        second = own[0].inputs[1].draft
        if last is second or (draft.kind == "Linear" and second.kind != "Linear"):
            return "branch"
    return "residual" if draft.kind in RESIDUAL else "inner"


def _is_stem(draft: Draft) -> bool:
    """The embedding, convolutions before it with their functions, and those of the residual stream."""
    while draft.kind in ("Lookup", "Linear", "Depthwise", "Activation"):
        source = draft.inputs[0].draft
        under = source.inputs[0].draft if source.kind == "Window" else source
        if under.kind == "Input" or (under is not source and under.kind == "Add"):
            return draft.kind != "Activation"
        convolves = under.inputs[0].draft if under.kind == "Activation" else under
        if convolves.kind not in ("Linear", "Depthwise") or convolves.inputs[0].draft.kind != "Window":
            return False
        draft = convolves
    return False


def _names(drafts: list[Draft]) -> dict[int, str]:
    """A name for every draft, from those of its values in the file: the first that can stay, else the first with other signs."""
    found, taken, counts = {}, set(), Counter()
    for draft in drafts:
        for source in (source.draft for source in draft.inputs if source.draft.kind == "Window"):
            source.names = [re.sub(r"(_output_\d+)?$", "_window", name, count=1) for name in draft.names]
    for draft in drafts:
        clean = [name for name in draft.names if NAME.fullmatch(name)]
        name = (clean or [_word(name) for name in draft.names[:1]] or [""])[0]
        if not NAME.fullmatch(name):
            name = draft.kind.lower()
        base = name
        while name.replace(".", "_") in taken:
            counts[base] += 1
            name = f"{base}_{counts[base]}"
        taken.add(name.replace(".", "_"))
        found[id(draft)] = name
    return found


def _word(name: str) -> str:
    """A name of a value of ONNX in the signs of ours: /layers.0/norm/Mul_output_0 → layers.0.norm.Mul."""
    parts = re.findall(r"\w+", re.sub(r"_output_\d+$", "", name), re.ASCII)
    return re.sub(r"^[^A-Za-z]+", "", ".".join(part.strip("_")[:40] for part in parts[-8:] if part.strip("_")))
