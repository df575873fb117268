"""The integer model of an artifact as a plain C loop: `compiled.c`, compiled for the artifact's types and this machine.

The NumPy model defines the integers; this loop has the same, several times faster. It needs a C compiler: $CC, else cc.
"""

import ctypes
import os
import shlex
import shutil
import tempfile
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from math import prod
from pathlib import Path

import numpy as np

from ..artifact import Artifact
from ..base import processes
from ..base.errors import DesignLimit, InputError, ToolFailed, ToolMissing
from ..base.formats import IntFormat, Rounding
from ..graph import build_graph
from ..ops import Activation, Add, LayerNorm, Linear, Lookup, Multiply, Operator, Pool, RangeNorm, Scan, Weighted
from ..piecewise import codes
from .integer import check_tokens

Array = np.ndarray

SOURCE = Path(__file__).with_name("compiled.c")
FLAGS = ("-O3", "-march=native", "-std=gnu11", "-shared", "-fPIC")
TOKENS, LANES = 8, 8
"""Of a Linear at a time, at most: so many sums stay in registers."""
ALIGNMENT = 64
"""Bytes, a cache line: without it the time of the same program differs by half from run to run."""
LARGEST_TABLE = 1 << 24
"""Entries that a table of Ā or of an activation may have."""
LARGEST_MEMORY = 1 << 28
"""Bytes that the values of all nodes may take, of one sequence: each thread has so many."""
PIECES = 4
"""Of a call for each thread, so that one which finds a free core computes more."""


class Format(ctypes.Structure):
    """`format` of compiled.c"""

    _fields_ = [(name, ctypes.c_int64) for name in ("left", "half", "even", "right", "low", "high")]


class Node(ctypes.Structure):
    """`node` of compiled.c, where `input` is `in`"""

    _fields_ = [
        ("compute", ctypes.c_void_p), ("x", ctypes.c_size_t * 4), ("y", ctypes.c_size_t),
        *((name, ctypes.c_int64) for name in ("tokens", "input", "out", "taps", "rows", "least", "bits", "index_bits")),
        ("left", ctypes.c_int64 * 2),
        *((name, ctypes.c_void_p) for name in ("weight", "bias", "multiplier", "table", "direct")), ("scratch", ctypes.c_size_t),
        *((name, Format) for name in ("o", "term", "h", "h_wide")),
    ]


class IntegerLoop:
    """The integer model in C, for sequences of the artifact's own length. Raises ToolMissing without a compiler, ToolFailed
    where it does not compile, and DesignLimit for an artifact whose tables, values or sums are too large."""

    def __init__(self, artifact: Artifact):
        self.artifact, operators = artifact, artifact.operators.values()
        scans = [op for op in operators if isinstance(op, Scan)]
        self.types = {
            "VALUE": _type(op.o.magnitude for op in operators),
            "SUM": _type(map(_sum_bound, operators)),
            "STATE": _type(map(_state_bound, scans)),
        }
        macros = {name: f"{kind}_t" for name, kind in self.types.items()} | {
            "STATES": scans[0].d_state, "TOKENS": min(TOKENS, artifact.config.tokens), "LANES": LANES}
        self._library = _compile(**macros)
        self._constants: list[Array] = []  # what the nodes of all threads point to
        self._size = 0  # bytes of what each thread has for itself
        self._nodes = self._make_nodes()
        self._idle: list[tuple[ctypes.Array, Array]] = []  # nodes with their memory that no thread uses now

    def run(self, tokens: Array, threads: int = 1) -> Array:
        """tokens [batch, L, input width] of integers → the head's int64 integers [batch, L', outputs]."""
        return self.prepare(tokens, threads)().astype(np.int64)

    def prepare(self, tokens: Array, threads: int = 1) -> Callable[[], Array]:
        """A function that computes the head's integers of `tokens` and does nothing else; its result is overwritten each time."""
        check_tokens(self.artifact, tokens)
        first, head = self._nodes[0], self._nodes[len(self._nodes) - 1]
        if tokens.shape[1] != first.tokens:
            raise InputError(f"the input has the shape {list(tokens.shape)}; the C loop reads [sequences, {first.tokens}, "
                             f"{first.out}]")
        i = np.ascontiguousarray(tokens, self.types["VALUE"])
        o = np.empty((len(i), head.tokens, head.out), i.dtype)
        size = -(-len(i) // (PIECES * threads if threads > 1 else 1)) or 1
        pieces = [(_address(i[k:k + size]), _address(o[k:k + size]), ctypes.c_int64(min(size, len(i) - k)))
                  for k in range(0, len(i), size)]

        def call() -> Array:
            if threads == 1:
                for piece in pieces:
                    self._compute(*piece)
            else:
                with ThreadPoolExecutor(threads) as pool:
                    list(pool.map(lambda piece: self._compute(*piece), pieces))
            return o

        return call

    def _compute(self, i: ctypes.c_void_p, o: ctypes.c_void_p, sequences: ctypes.c_int64) -> None:
        try:
            nodes, memory = self._idle.pop()
        except IndexError:
            nodes, memory = self._allocate()
        self._library.run(nodes, ctypes.c_int64(len(nodes)), i, o, sequences)  # Python's lock is free meanwhile
        self._idle.append((nodes, memory))

    def _allocate(self) -> tuple[ctypes.Array, Array]:
        """The nodes for one thread, and their memory."""
        memory = np.zeros(self._size + ALIGNMENT, np.uint8)
        base = memory.ctypes.data + -memory.ctypes.data % ALIGNMENT
        nodes = type(self._nodes).from_buffer_copy(self._nodes)
        for node in nodes:
            node.x = tuple(base + x for x in node.x)
            node.y += base
            node.scratch += base
        return nodes, memory

    def _make_nodes(self) -> ctypes.Array:
        """The nodes, with places in a thread's memory instead of addresses in `x`, `y` and `scratch`."""
        nodes: dict[str, Node] = {}
        for entry in build_graph(self.artifact.config):
            op, inputs = self.artifact.operators[entry.name], [nodes[name] for name in entry.inputs]
            read = inputs[0].tokens if inputs else self.artifact.config.tokens
            tokens = 1 if isinstance(op, Pool) else read
            y = self._reserve((tokens + TOKENS, op.width), "VALUE")
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
                                  "multiplier": p(op.multiplier, "SUM"), "scratch": self._reserve((op.width,), "SUM")}
            case Lookup():
                if op.i.signed:
                    raise DesignLimit(f"the C loop reads unsigned token ids, not {op.i}")
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
                _check_table("the function", 1 << op.i.bits)
                return "activation", {"least": op.i.min, "table": p(op(codes(op.i)), "VALUE")}
            case Scan():
                term = _format(op, op.b_bar_shift, op.b_bar) if op.delta_b else _format(op, op.term_shift, op.h_wide)
                return "scan_delta_b" if op.delta_b else "scan_delta_u", {
                    "least": op.dt.min, "left": (op.a_bar.frac, 0), "table": p(_decays(op), "STATE"),
                    "direct": p(op.D << op.d_shift, "int64"), "scratch": self._reserve(op.A.shape, "STATE"),
                    "o": _format(op, op.y_shift), "term": term, "h": _format(op, op.a_bar.frac, op.h),
                    "h_wide": _format(op, 0, op.h_wide)}
            case Multiply():
                return "multiply", {}
            case Add():
                return "add", {"left": (op.frac - op.a.frac, op.frac - op.b.frac)}
            case Pool():
                return "pool_mean" if op.mean else "pool_last", {"multiplier": p(np.array([op.multiplier]), "SUM"),
                                                                 "scratch": self._reserve((op.width,), "SUM")}
        raise DesignLimit(f"the C loop has no {type(op).__name__}")

    def _pointer(self, x: Array, kind: str) -> int:
        """Address of a copy of `x` in the C type `kind`, aligned."""
        content = np.ascontiguousarray(x, self.types.get(kind, kind)).view(np.uint8).reshape(-1)
        memory = np.empty(content.size + ALIGNMENT, np.uint8)
        start = -memory.ctypes.data % ALIGNMENT
        memory[start:start + content.size] = content
        self._constants.append(memory)
        return memory.ctypes.data + start

    def _reserve(self, shape: tuple[int, ...], kind: str) -> int:
        """Place of an array of the C type `kind` in a thread's memory, aligned."""
        place = self._size
        self._size += -(-prod(shape) * np.dtype(self.types[kind]).itemsize // ALIGNMENT) * ALIGNMENT
        if self._size > LARGEST_MEMORY:
            raise DesignLimit(f"the values of {self.artifact.config.tokens} tokens need more than the C loop's "
                              f"{LARGEST_MEMORY} bytes")
        return place


def compiler() -> list[str]:
    """The C compiler's command and its first arguments."""
    command = shlex.split(os.environ.get("CC") or "cc")
    if not shutil.which(command[0]):
        raise ToolMissing(f"the C loop needs the C compiler {command[0]}, which is not on PATH; install one, e.g. apt-get "
                          "install gcc, or name it in $CC")
    return command


def _address(x: Array) -> ctypes.c_void_p:
    return x.ctypes.data_as(ctypes.c_void_p)


@cache
def _compile(**macros: str | int) -> ctypes.CDLL:
    """compiled.c with these types and sizes, for this machine. No file stays."""
    command = [*compiler(), *FLAGS, *(f"-D{name}={value}" for name, value in macros.items()), str(SOURCE), "-o"]
    with tempfile.TemporaryDirectory() as folder:
        library = Path(folder) / "compiled.so"
        done = processes.run([*command, library])
        if done.returncode:
            said = [line for line in done.stderr.splitlines() if line.strip()] or [f"it ends with status {done.returncode}"]
            raise ToolFailed(f"{command[0]} cannot compile {SOURCE}: {said[0]}")
        try:
            return ctypes.CDLL(str(library))
        except OSError as error:
            raise ToolFailed(f"{command[0]} compiles {SOURCE}, but that cannot be loaded: {error}") from None


def _type(bounds: Iterable[int]) -> str:
    """The integer type that holds ±bound for all `bounds`; 32 bits at least, since narrower lanes were slower."""
    bound = max(bounds)
    if bound >= 1 << 63:
        raise DesignLimit(f"a number of the C loop can reach {bound.bit_length()} bits; at most 63 are possible: use narrower "
                          "formats")
    return "int32" if bound < 1 << 31 else "int64"


def _inside(bound: int, shift: int) -> int:
    """Largest |number| while one of at most `bound` is rounded by `shift`."""
    return bound << -shift if shift <= 0 else bound + (1 << (shift - 1))


def _sum_bound(op: Operator) -> int:
    """Largest |number| inside a node; of a Scan, only the output."""
    match op:
        case Weighted() | Pool():
            bound = op.bound * int(np.max(op.multiplier))
        case Multiply() | Add():
            bound = op.bound
        case RangeNorm():
            bound = (op.channels << op.i.bits) * int(op.reciprocals[0].max())
        case LayerNorm():
            bound = max(op.shifted_bound << op.entry_bits, op.n_bound, op.channels * op.i.magnitude)
        case _:
            return op.o.magnitude
    return max(_inside(bound, op.shift), op.o.magnitude)


def _state_bound(op: Scan) -> int:
    """Largest |number| in a step of the recurrence; y's sum has 64 bits."""
    factor = op.dt.magnitude * (1 if op.delta_b else op.u.magnitude)
    term = _inside(factor * op.B.magnitude, op.b_bar_shift if op.delta_b else op.term_shift)
    state = (op.h.magnitude << op.a_bar.bits) + op.term_bound
    return max(term, state, _inside(op.h_wide.magnitude, op.a_bar.frac), op.C.magnitude)


def _decays(op: Scan) -> Array:
    """Ā of every code of δ, [codes, d_inner, d_state]."""
    _check_table("Ā", op.A.size << op.dt.bits)
    return op.decays(np.broadcast_to(codes(op.dt)[:, None], (1 << op.dt.bits, op.width)))


def _check_table(name: str, entries: int) -> None:
    if entries > LARGEST_TABLE:
        raise DesignLimit(f"a table of {name} has {entries} entries; the C loop has at most {LARGEST_TABLE}: use fewer bits for "
                          "its input")


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
