"""Sections of the evaluation: an outside compiler of adder graphs, and a systolic array, beside this project's circuits."""

from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from math import ceil

import numpy as np

from emamba.artifact import Artifact, load
from emamba.base.errors import Mismatch, ToolMissing
from emamba.base.formats import IntFormat
from emamba.graph import Node
from emamba.ops import Attention, Conv1d, Depthwise, Linear
from rtl.kit.adder_graph import Builder, Graph, Term, solve
from rtl.kit.inventory import Inventory
from rtl.plan.cost import resources
from rtl.plan.schedule import Schedule

from .baselines import DATA_SETS, MODELS, artifact_of, fastest

COMPILER = "da4ml 0.6.0"
COMPILED = "baselines/mars_cnn", "baselines/japanese_vowels_cnn"
LAYERS = "baselines/mars_mamba", "baselines/mars_vit", "baselines/mars_cnn"
"""Models whose layers the page shows."""


def adders() -> list[dict]:
    """Of every Linear of COMPILED, with its weights wired in, our adder graph and the compiler's, counted alike."""
    if find_spec("da4ml") is None:
        raise ToolMissing(f"the section adders compares with {COMPILER}: pip install {COMPILER.replace(' ', '==')}")
    rows = []
    for name in COMPILED:
        layers = [(op.weight, op.i) for op in load(MODELS / name).operators.values() if isinstance(op, Linear)]
        rows.append({"model": name.rpartition("/")[2], "weights": sum(weight.size for weight, _ in layers),
                     "ours": _sizes([(solve(*layer), layer[1]) for layer in layers]),
                     "compiler": _sizes([(compiled(*layer), layer[1]) for layer in layers])})
    return rows


def compiled(matrix: np.ndarray, i: IntFormat) -> Graph:
    """The compiler's graph of a matrix [outputs, inputs] for inputs of format `i`."""
    from da4ml.cmvm import solve

    kernel = np.ascontiguousarray(matrix.T, np.float32)
    solution = solve(kernel, method0="mc", hard_dc=1, qintervals=[(i.min, i.max, 1)] * len(kernel))
    builder = Builder(len(kernel))
    terms: list[Term | None] = [Term(node) for node in range(len(kernel))]

    def scaled(term: Term | None, shift: int, negate: bool) -> Term | None:
        return term and Term(term.node, term.shift + shift, term.negate != negate)

    for part in solution.solutions:
        values: list[Term | None] = []
        for op in part.ops:
            if op.opcode == -1:
                values.append(scaled(terms[op.id0], part.inp_shifts[op.id0], False))
            else:  # 0 adds, 1 subtracts: the only others in a product
                values.append(builder.add(values[op.id0], scaled(values[op.id1], op.data, op.opcode == 1)))
        terms = [None if index < 0 else scaled(values[index], shift, bool(negate))
                 for index, shift, negate in zip(part.out_idxs, part.out_shifts, part.out_negs, strict=True)]
    graph = builder.graph(terms)
    if not np.array_equal(graph.evaluate(np.eye(len(kernel), dtype=np.int64)).T, matrix):
        raise Mismatch(f"{COMPILER} gives another product than that of its matrix")
    return graph


def _sizes(graphs: list[tuple[Graph, IntFormat]]) -> dict:
    made = Inventory()
    for graph, i in graphs:
        merged = graph.merged_bits(i)
        made += Inventory(adders=graph.adder_bits(i) - merged, carry_saves=merged, registers=graph.register_bits(i))
    return {"adders": sum(graph.adders for graph, _ in graphs), "adder_bits": sum(graph.adder_bits(i) for graph, i in graphs),
            "register_bits": sum(graph.register_bits(i) for graph, i in graphs),
            "depth": max(graph.depth for graph, _ in graphs), "lut": round(resources(made, "xcup")["lut"])}


def table_adders(rows: list[dict]) -> list[str]:
    return ["## Adder graphs beside an outside compiler", "",
            "The Linears of two convolutional baselines with their weights wired in, a token a cycle: our graphs and those",
            f"of {COMPILER}, each found to be its matrix. Counted alike: adders and their bits, registers after every two",
            "levels, LUT for UltraScale+ by the cost model.", "",
            "| model | weights | graphs | adders | adder bits | register bits | levels | LUT |", "| --- " * 8 + "|",
            *(f"| {row['model']} | {row['weights']:,} | {words} | {row[key]['adders']:,} | {row[key]['adder_bits']:,} "
              f"| {row[key]['register_bits']:,} | {row[key]['depth']} | {row[key]['lut']:,} |"
              for row in rows for key, words in (("ours", "ours"), ("compiler", COMPILER)))]


@dataclass(frozen=True)
class Product:
    """`times` products of matrices [rows, depth] · [depth, columns]."""

    rows: int
    depth: int
    columns: int
    times: int = 1

    @property
    def multiplies(self) -> int:
        return self.rows * self.depth * self.columns * self.times


def cycles(product: Product, high: int, wide: int) -> int:
    """Of an array of high × wide multipliers, with outputs or with weights held in it, whichever is faster; the next tile is
    loaded and the last one drained meanwhile, but for the first and the last."""
    rows, depth, columns = product.rows, product.depth, product.columns
    outputs = ceil(rows / high) * ceil(columns / wide) * depth
    weights = ceil(depth / high) * ceil(columns / wide) * max(rows, high)
    return product.times * min(outputs, weights) + high + wide - 2


def products(artifact: Artifact, node: Node) -> list[Product]:
    """What a node multiplies as matrices."""
    op, graph = artifact.operators[node.name], artifact.graph
    if isinstance(op, Linear):
        return [Product(node.reads, op.weight.shape[1], op.weight.shape[0])]
    if isinstance(op, Conv1d | Depthwise):
        return [Product(node.reads, op.weight.shape[1], 1, op.weight.shape[0])]
    if isinstance(op, Attention):
        d = graph[node.inputs[0]].width // op.heads
        return [Product(op.tokens, d, op.tokens, op.heads), Product(op.tokens, op.tokens, d, op.heads)]
    return []


def layers(schedule: Schedule, high: int, wide: int) -> Iterator[dict]:
    """Of every node that multiplies, the array's cycles a frame and the schedule's. What is no product of matrices takes the
    multipliers of the array's shorter side, and so does a depthwise convolution where that is faster."""
    artifact = schedule.artifact
    for node in artifact.graph.nodes[1:]:
        block, matrices = schedule.blocks[node.name], products(artifact, node)
        if multiplies := block.multiplies * node.reads:
            choices = [sum(cycles(each, high, wide) for each in matrices)] if matrices else []
            if not isinstance(artifact.operators[node.name], Linear | Attention):
                choices.append(ceil(multiplies / min(high, wide)))
            yield {"layer": node.name, "multiplies": multiplies, "array": min(choices), "cycles": block.cycles * node.reads,
                   "multipliers": block.multipliers}


def systolic() -> list[dict]:
    """Every model of the baselines on the array of at most as many multipliers that is the fastest for it."""
    rows = []
    for data, name in ((data, name) for data, found in DATA_SETS.items() for name in found.models):
        schedule = fastest(artifact_of(name))
        shapes = [(high, schedule.multipliers // high) for high in range(1, schedule.multipliers + 1)]
        best = min(shapes, key=lambda shape: sum(row["array"] for row in layers(schedule, *shape)))
        found = [*layers(schedule, *best)]
        rows.append({"data": data, "model": schedule.artifact.name, "multipliers": schedule.multipliers, "shape": [*best],
                     "array": sum(row["array"] for row in found), "cycles": schedule.cycles_per_frame,
                     "latency": schedule.latency} | ({"layers": found} if name in LAYERS else {}))
    return rows


def table_systolic(rows: list[dict]) -> list[str]:
    lines = ["## Pipelines beside a systolic array", "",
             "An array of as many multipliers as the design of the [table](#mamba-attention-convolutions) has computes layer",
             "after layer; of all its shapes, the best for the model. Outputs or weights stay in it, whichever is faster for a",
             "layer. Tiles follow each other without a gap, so a layer fills and drains it once. What is no product of matrices",
             "takes as many multipliers as its shorter side has. Memories take no time. Of the array all is an estimate.", "",
             "| model | multipliers | array | its cycles a frame | our cycles a frame | our latency | array over ours |",
             "| --- " * 7 + "|"]
    lines += [f"| {row['model']} | {row['multipliers']} | {row['shape'][0]} × {row['shape'][1]} | {row['array']:,} "
              f"| {row['cycles']:,} | {row['latency']:,} "
              f"| {row['array'] / row['cycles']:.1f} / {row['array'] / row['latency']:.1f} |"
              for row in rows]
    lines += ["", "Its layers, those of the same name in all blocks together. Ours work at the same time; cycles are of one.", "",
              "| model | layer | multiplies | the array's cycles | our multipliers | our cycles |", "| --- " * 6 + "|"]
    for row in rows:
        together: dict[str, list[dict]] = {}
        for layer in row.get("layers", []):
            together.setdefault(layer["layer"].rpartition(".")[2], []).append(layer)
        lines += [f"| {row['model']} | {name} | {sum(each['multiplies'] for each in found):,} "
                  f"| {sum(each['array'] for each in found):,} | {sum(each['multipliers'] for each in found)} "
                  f"| {max(each['cycles'] for each in found)} |" for name, found in together.items()]
    return lines
