"""The integer model of an artifact as a plain C loop: `integer.c`, compiled for the artifact's types and this machine."""

import ctypes
import hashlib
import shutil
import subprocess
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np

from emamba.artifact import Artifact
from emamba.errors import EmambaError
from emamba.files import write_file
from emamba.formats import IntFormat, Rounding
from emamba.graph import build_graph
from emamba.operators import Activation, Add, LayerNorm, Linear, Lookup, Multiply, Operator, Pool, RangeNorm, Scan, Weighted
from emamba.piecewise import codes

Array = np.ndarray

SOURCE = Path(__file__).with_name("integer.c")
FLAGS = ("-O3", "-march=native", "-std=gnu11", "-shared", "-fPIC")
TOKENS, LANES = 8, 8
"""Of a Linear at a time, at most: so many sums stay in registers."""
ALIGNMENT = 64
"""Bytes, a cache line: without it the time of the same program differs by half from run to run."""
LARGEST_TABLE = 1 << 26
"""Entries that a table of Ā may have."""


class Format(ctypes.Structure):
    """`format` of integer.c"""

    _fields_ = [(name, ctypes.c_int64) for name in ("left", "half", "even", "right", "low", "high")]


class Node(ctypes.Structure):
    """`node` of integer.c, where `input` is `in`"""

    _fields_ = [
        ("compute", ctypes.c_void_p), ("x", ctypes.c_void_p * 4), ("y", ctypes.c_void_p),
        *((name, ctypes.c_int64) for name in ("tokens", "input", "out", "taps", "rows", "least", "bits", "index_bits")),
        ("left", ctypes.c_int64 * 2),
        *((name, ctypes.c_void_p) for name in ("weight", "bias", "multiplier", "table", "direct", "scratch")),
        *((name, Format) for name in ("o", "term", "h", "h_wide")),
    ]


class IntegerLoop:
    """The integer model in C, for sequences of the artifact's own length: all of them in one call, on one thread."""

    def __init__(self, artifact: Artifact, build: Path = Path("build/cpu")):
        self.artifact, operators = artifact, artifact.operators.values()
        scans = [op for op in operators if isinstance(op, Scan)]
        self.types = {
            "VALUE": _type(op.o.magnitude for op in operators),
            "SUM": _type(map(_sum_bound, operators)),
            "STATE": _type(map(_state_bound, scans)),
        }
        sizes = {"STATES": scans[0].d_state, "TOKENS": min(TOKENS, artifact.config.tokens), "LANES": LANES}
        self._library = _compile(self.types, sizes, build)
        self._memory: list[Array] = []  # what the nodes point to
        self._nodes = self._make_nodes()

    def run(self, tokens: Array) -> Array:
        """tokens [batch, L, input width] of integers → the head's integers [batch, L', outputs]."""
        return self.prepare(tokens)()

    def prepare(self, tokens: Array) -> Callable[[], Array]:
        """A function that computes the head's integers of `tokens` and does nothing else; its result is overwritten each time."""
        first, head = self._nodes[0], self._nodes[len(self._nodes) - 1]
        if tokens.shape[1:] != (first.tokens, first.out):
            raise EmambaError(f"the input has the shape {list(tokens.shape)}; the C loop reads [sequences, {first.tokens}, "
                              f"{first.out}]")
        i = np.ascontiguousarray(tokens, self.types["VALUE"])
        o = np.empty((len(i), head.tokens, head.out), i.dtype)
        arguments = (self._nodes, ctypes.c_int64(len(self._nodes)), i.ctypes.data_as(ctypes.c_void_p),
                     o.ctypes.data_as(ctypes.c_void_p), ctypes.c_int64(len(i)))

        def call() -> Array:
            self._library.run(*arguments)
            return o

        return call

    def _make_nodes(self) -> ctypes.Array:
        nodes: dict[str, Node] = {}
        for entry in build_graph(self.artifact.config):
            op, inputs = self.artifact.operators[entry.name], [nodes[name] for name in entry.inputs]
            read = inputs[0].tokens if inputs else self.artifact.config.tokens
            tokens = 1 if isinstance(op, Pool) else read
            y = self._pointer(np.zeros((tokens + TOKENS, op.width)), "VALUE")
            nodes[entry.name] = Node(x=tuple(node.y for node in inputs), y=y, tokens=tokens, rows=read, out=op.width)
            if inputs:
                function, fields = self._describe(op)
                nodes[entry.name].compute = ctypes.cast(self._library[function], ctypes.c_void_p)
                for name, value in ({"o": _format(op, getattr(op, "shift", 0))} | fields).items():
                    setattr(nodes[entry.name], name, value)
        return (Node * len(nodes))(*nodes.values())

    def _describe(self, op: Operator) -> tuple[str, dict]:
        """The function that computes `op`, and the fields that it reads."""
        p = self._pointer
        match op:
            case Linear():
                weight, bias, multiplier = (_blocks(x) for x in (op.weight, op.bias, op.multiplier))
                return "linear", {"input": op.weight.shape[1], "weight": p(weight.swapaxes(1, -1), "SUM"), "bias": p(bias, "SUM"),
                                  "multiplier": p(multiplier, "SUM"),
                                  "o": _format(op, op.shift, relu=op.relu)}
            case Weighted():
                return "conv1d", {"taps": op.weight.shape[1], "weight": p(op.weight.T, "SUM"), "bias": p(op.bias, "SUM"),
                                  "multiplier": p(op.multiplier, "SUM"), "scratch": p(np.zeros(op.width), "SUM")}
            case Lookup():
                return "lookup", {"rows": len(op.table), "table": p(op.table, "VALUE")}
            case RangeNorm():
                entries, _ = op.reciprocals
                return "range_norm", {"bits": op.i.bits, "index_bits": len(entries).bit_length() - 1, "table": p(entries, "SUM")}
            case LayerNorm():
                entries, _ = op.reciprocals
                return "layer_norm" if op.centered else "rms_norm", {
                    "bits": op.spread_bits, "index_bits": len(entries).bit_length() - 2, "least": op.epsilon,
                    "table": p(entries, "SUM")}
            case Activation():
                return "activation", {"least": op.i.min, "table": p(op(codes(op.i)), "VALUE")}
            case Scan():
                term = _format(op, op.b_bar_shift, op.b_bar) if op.delta_b else _format(op, op.term_shift, op.h_wide)
                return "scan_delta_b" if op.delta_b else "scan_delta_u", {
                    "least": op.dt.min, "left": (op.a_bar.frac, 0), "table": p(_decays(op), "STATE"),
                    "direct": p(op.D << op.d_shift, "int64"), "scratch": p(np.zeros(op.A.shape), "STATE"),
                    "o": _format(op, op.y_shift), "term": term, "h": _format(op, op.a_bar.frac, op.h),
                    "h_wide": _format(op, 0, op.h_wide)}
            case Multiply():
                return "multiply", {}
            case Add():
                return "add", {"left": (op.frac - op.a.frac, op.frac - op.b.frac)}
            case Pool():
                return "pool_mean" if op.mean else "pool_last", {"multiplier": p(np.array([op.multiplier]), "SUM"),
                                                                 "scratch": p(np.zeros(op.width), "SUM")}
        raise EmambaError(f"the C loop has no {type(op).__name__}")

    def _pointer(self, x: Array, kind: str) -> int:
        """Address of a copy of `x` in the C type `kind`, aligned."""
        content = np.ascontiguousarray(x, self.types.get(kind, kind)).view(np.uint8).reshape(-1)
        memory = np.empty(content.size + ALIGNMENT, np.uint8)
        start = -memory.ctypes.data % ALIGNMENT
        memory[start:start + content.size] = content
        self._memory.append(memory)
        return memory.ctypes.data + start


def compiler() -> str:
    """The C compiler's command."""
    command = shutil.which("cc")
    if not command:
        raise EmambaError("the C loop needs the C compiler cc, which is not on PATH; install one, e.g. apt-get install gcc")
    return command


def _compile(types: dict[str, str], sizes: dict[str, int], build: Path) -> ctypes.CDLL:
    """The library of these types and sizes, or the one that an earlier run built of the same source."""
    macros = [f"-D{name}={kind}_t" for name, kind in types.items()] + [f"-D{name}={size}" for name, size in sizes.items()]
    command = [compiler(), *FLAGS, *macros, str(SOURCE), "-o"]
    content = "\0".join([*command, SOURCE.read_text(encoding="utf-8")])
    library = Path(build).resolve() / f"integer-{hashlib.sha256(content.encode()).hexdigest()[:16]}.so"

    def write(path: Path) -> None:
        process = subprocess.run([*command, str(path)], capture_output=True, text=True)
        if process.returncode:
            raise EmambaError(f"{command[0]} cannot compile {SOURCE}: {process.stderr.strip()}")

    if not library.exists():
        write_file(library, write)
    return ctypes.CDLL(str(library))


def _type(bounds: Iterable[int]) -> str:
    """The integer type that holds ±bound for all `bounds`; 32 bits at least, since narrower lanes were slower."""
    return "int32" if max(bounds) < 1 << 31 else "int64"


def _inside(bound: int, shift: int) -> int:
    """Largest |number| while one of at most `bound` is rounded by `shift`."""
    return bound << -shift if shift <= 0 else bound + (1 << (shift - 1))


def _sum_bound(op: Operator) -> int:
    """Largest |number| inside a node; of a Scan, only the output."""
    match op:
        case Weighted() | Pool():
            bound = op.bound * int(np.max(op.multiplier))
        case RangeNorm():
            bound = (op.channels << op.i.bits) * int(op.reciprocals[0].max())
        case LayerNorm():
            bound = max(op.shifted_bound << op.entry_bits, op.n_bound, op.channels * op.i.magnitude)
        case Multiply():
            bound = op.a.magnitude * op.b.magnitude
        case Add():
            bound = (op.a.magnitude << (op.frac - op.a.frac)) + (op.b.magnitude << (op.frac - op.b.frac))
        case _:
            return op.o.magnitude
    return max(_inside(bound, op.shift), op.o.magnitude)


def _state_bound(op: Scan) -> int:
    """Largest |number| in a step of the recurrence; y's sum has 64 bits."""
    factor = op.dt.magnitude * (1 if op.delta_b else op.u.magnitude)
    term = _inside(factor * op.B.magnitude, op.b_bar_shift if op.delta_b else op.term_shift)
    return max(term, (op.h.magnitude << op.a_bar.bits) + op.term_bound, _inside(op.h_wide.magnitude, op.a_bar.frac))


def _decays(op: Scan) -> Array:
    """Ā of every code of δ, [codes, d_inner, d_state]."""
    if op.A.size << op.dt.bits > LARGEST_TABLE:
        raise EmambaError(f"{op.A.size} states need a table of Ā of {op.A.size << op.dt.bits} entries with {op.dt.bits} bits of "
                          f"δ; the C loop has at most {LARGEST_TABLE}: use fewer bits for dt")
    return op.decays(np.broadcast_to(codes(op.dt)[:, None], (1 << op.dt.bits, op.width)))


def _blocks(x: Array) -> Array:
    """x [out, ...] → [blocks, LANES, ...], filled up with zeros."""
    padded = np.zeros((-(-len(x) // LANES) * LANES, *x.shape[1:]), np.int64)
    padded[:len(x)] = x
    return padded.reshape(-1, LANES, *x.shape[1:])


def _format(op: Operator, shift: int, o: IntFormat | None = None, relu: bool = False) -> Format:
    """Rounding by `shift` as `op` rounds, and saturation to `o`, by default the output's format; `relu` raises its lower end."""
    o, right = o or op.o, max(shift, 0)
    half = 0 if not right or op.rounding is Rounding.TRUNCATE else 1 << (right - 1)
    even = int(bool(right) and op.rounding is Rounding.HALF_EVEN)
    return Format(left=max(-shift, 0), half=half - even, even=even, right=right, low=0 if relu else o.min, high=o.max)
