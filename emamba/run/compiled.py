"""The integer model of an artifact as a plain C loop: `compiled.c`, compiled for the artifact's types and this machine.

The NumPy model defines the integers; this loop has the same, several times faster. It needs a C compiler: $CC, else cc.
"""

import ctypes
import os
import shlex
import shutil
import sys
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
from ..ops import Operator, Scan
from . import lanes
from .integer import check_tokens

Array = np.ndarray

SOURCE = Path(__file__).with_name("compiled.c")
ARITHMETIC = Path(__file__).parents[1] / "ops" / "arithmetic.c"
FLAGS = ("-O3", "-march=native", "-std=gnu11", "-shared", "-fPIC", "-Werror=incompatible-pointer-types")
TOKENS = 8
"""Tokens of a Linear at a time, at most: their sums stay in registers."""
ALIGNMENT = 64
"""Bytes, a cache line: without it the time of the same program differs by half from run to run."""
LARGEST_TABLE = 1 << 24
"""Entries that a table of Ā or of an activation may have."""
LARGEST_MEMORY = 1 << 28
"""Scratch limit of a thread, in bytes: the values of all nodes of one sequence."""
PIECES = 4
"""Of a call for each thread, so that one which finds a free core computes more."""


class Format(ctypes.Structure):
    """`format` of compiled.c"""

    _fields_ = [(name, ctypes.c_int64) for name in ("left", "half", "even", "right", "low", "high")]


class Node(ctypes.Structure):
    """`step` of compiled.c: a function, and a `node` of arithmetic.c, where `input` is `in`"""

    _fields_ = [
        ("compute", ctypes.c_void_p), ("x", ctypes.c_size_t * 4), ("y", ctypes.c_size_t),
        *((name, ctypes.c_int64) for name in ("tokens", "input", "out", "taps", "rows", "given", "at", "least", "bits",
                                              "index_bits", "head", "group", "block")),
        ("left", ctypes.c_int64 * 2),
        *((name, ctypes.c_void_p) for name in ("weight", "bias", "multiplier", "table", "start", "rates", "direct")),
        ("scratch", ctypes.c_size_t), ("kept", ctypes.c_size_t), ("kept_bytes", ctypes.c_int64),
        *((name, Format) for name in ("o", "term", "h", "h_wide", "argument")),
        ("held", ctypes.c_int64), ("epsilon", ctypes.c_int64),
    ]


class IntegerLoop:
    """The integer model in C, for sequences of the artifact's own length; without `vectors` by the operators' plain C alone.

    `options` are more of the compiler's. Raises EmambaError without a compiler, and for an artifact whose tables, values or sums
    are too large.
    """

    lanes, depth = lanes.LANES, 1
    """Outputs and inputs of a Linear that are next to each other in its weights."""
    decay_entries = LARGEST_TABLE
    """Of a table of Ā by channel and δ, at most."""

    def __init__(self, artifact: Artifact, vectors: bool = True, options: tuple[str, ...] = ()):
        self.artifact, operators = artifact, artifact.operators.values()
        scans = [op for op in operators if isinstance(op, Scan)]
        sources = tuple(dict.fromkeys(op.source for op in operators if op.inputs))
        if artifact.graph.nodes[-1].name != artifact.graph.output.name:
            raise DesignLimit("the C loop needs the output as the last node of the graph")
        if None in sources:
            kinds = sorted({type(op).__name__ for op in operators if op.inputs and op.source is None})
            raise DesignLimit(f"there is no C of {', '.join(kinds)}")
        if len({op.d_state for op in scans}) > 1:
            raise DesignLimit("the C loop has one number of states for all scans of a model")
        self.types = {
            "VALUE": _type(op.o.magnitude for op in operators),
            "SUM": _type(op.sum_bound for op in operators),
            "STATE": _type(op.state_bound for op in scans),
        }
        self._vectors = vectors and self.types["SUM"] == "int32"
        short = all(op.o.min >= -(1 << 15) and op.o.max < 1 << 15 for op in operators)
        if self._vectors and short and set(self.types.values()) == {"int32"}:
            self.types["VALUE"] = "int16"  # as `lanes.c` reads them
        self.tokens = min(TOKENS, artifact.graph.length)
        macros = {name: f"{kind}_t" for name, kind in self.types.items()} | {
            **{f"UNSIGNED_{name}": f"u{self.types[name]}_t" for name in ("SUM", "STATE")}, "PLACE": "int64_t",
            "DEPTH": self.depth, "STATES": scans[0].d_state if scans else 1, "LANES": self.lanes,
            "TOKENS": self.tokens}
        if self._vectors:
            macros |= lanes.macros(operators)
        self._library = _compile((*sources, *(lanes.SOURCES if self._vectors else ())), options, **macros)
        if self._vectors and (wrong := self._library.vectors_agree()):
            say(f"primitive {wrong} of {lanes.SOURCES[0]} differs from its plain C on this machine; the plain C computes "
                "instead, several times slower")
            self._library = _compile((*sources, *lanes.SOURCES), options, PLAIN_VECTORS=1, **macros)
        self.bytes = (0, 0, 0)
        """`vector_bytes` of vectors.c."""
        if self._vectors:
            self.bytes = tuple((ctypes.c_int32 * 3).in_dll(self._library, "vector_bytes"))
        self.tables = bool(self._vectors and ctypes.c_int32.in_dll(self._library, "vector_tables").value)
        """Whether tables of 256 bytes are looked up in vectors."""
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
        graph, run, idle, allocate = self.artifact.graph, self._library.run, self._idle, self._allocate
        size = -(-len(i) // (PIECES * threads if threads > 1 and not graph.carried else 1)) or 1
        pieces = [(ctypes.c_int64(len(self._nodes)), _address(i[k:k + size]), _address(o[k:k + size]),
                   ctypes.c_int64(min(size, len(i) - k)), ctypes.c_int64(graph.window(min(size, len(i) - k))))
                  for k in range(0, len(i), size)]

        def compute(*pieces: tuple) -> None:
            try:
                thread = idle.pop()
            except IndexError:
                thread = allocate()
            for piece in pieces:
                run(thread[0], *piece)  # Python's lock is free meanwhile
            idle.append(thread)

        def call() -> Array:
            if threads == 1:
                compute(*pieces)
            else:
                list(_pool(threads).map(compute, pieces))
            return o

        return call

    def _allocate(self) -> tuple[ctypes.Array, Array]:
        """The nodes for one thread, and their memory."""
        memory = np.zeros(self._size + ALIGNMENT, np.uint8)
        base = memory.ctypes.data + -memory.ctypes.data % ALIGNMENT
        nodes = type(self._nodes).from_buffer_copy(self._nodes)
        for node in nodes:
            node.x = tuple(base + x for x in node.x)
            node.y += base
            node.scratch += base
            node.kept += base
        return nodes, memory

    def _make_nodes(self) -> ctypes.Array:
        """The nodes, with places in a thread's memory instead of addresses in `x`, `y`, `scratch` and `kept`."""
        nodes: dict[str, Node] = {}
        for entry in self.artifact.graph:
            op, inputs = self.artifact.operators[entry.name], [nodes[name] for name in entry.inputs]
            y = self.reserve(((entry.tokens + max(TOKENS, self.bytes[0])) * op.width + lanes.BEYOND,), "VALUE")
            node = Node(x=tuple(node.y for node in inputs), y=y, tokens=entry.tokens, rows=entry.reads,
                        given=entry.reads, out=op.width, block=op.width)
            if inputs:
                function, fields = (self._vectors and lanes.in_lanes(op, self)) or op.c(self)
                node.compute = ctypes.cast(self._library[function], ctypes.c_void_p)
                for name, value in fields.items():
                    setattr(node, name, value)
            nodes[entry.name] = node
        return (Node * len(nodes))(*nodes.values())

    # -- what an operator's `c` calls -----------------------------------------------------------------------------------------

    def pointer(self, x: Array, kind: str) -> int:
        """Address of a copy of `x` in the C type `kind`, aligned."""
        content = np.ascontiguousarray(x, self.types.get(kind, kind)).view(np.uint8).reshape(-1)
        memory = np.empty(content.size + ALIGNMENT, np.uint8)
        start = -memory.ctypes.data % ALIGNMENT
        memory[start:start + content.size] = content
        self._constants.append(memory)
        return memory.ctypes.data + start

    def keep(self, shape: tuple[int, ...], kind: str, *_, **__) -> dict[str, int]:
        """Fields of what an operator keeps from token to token; its limits are of a microcontroller's saved states."""
        return {"kept": self.reserve(shape, kind), "kept_bytes": prod(shape) * np.dtype(self.types[kind]).itemsize}

    def reserve(self, shape: tuple[int, ...], kind: str) -> int:
        """Place of an array of the C type `kind` in a thread's memory, aligned."""
        place = self._size
        self._size += -(-prod(shape) * np.dtype(self.types.get(kind, kind)).itemsize // ALIGNMENT) * ALIGNMENT
        if self._size > LARGEST_MEMORY:
            raise DesignLimit(f"the values of {self.artifact.config.tokens} tokens need more than the C loop's "
                              f"{LARGEST_MEMORY} bytes")
        return place

    @staticmethod
    def check_table(name: str, entries: int) -> None:
        """Refuses a table that is too large."""
        if entries > LARGEST_TABLE:
            raise DesignLimit(f"a table of {name} has {entries} entries; the C loop has at most {LARGEST_TABLE}: use fewer bits "
                              "for its input")

    @staticmethod
    def format(op: Operator, shift: int, o: IntFormat | None = None, relu: bool = False,
               limits: tuple[int, int] | None = None) -> Format:
        """Rounding by `shift` as `op` rounds, and saturation to `o`, by default the output's format, or to `limits`; `relu`
        raises the lower end."""
        o, right = o or op.o, max(shift, 0)
        half = 0 if not right or op.rounding is Rounding.TRUNCATE else 1 << (right - 1)
        even = int(bool(right) and op.rounding is Rounding.HALF_EVEN)
        low, high = limits or (0 if relu else o.min, o.max)
        return Format(left=max(-shift, 0), half=half - even, even=even, right=right, low=low, high=high)


def compiler() -> list[str]:
    """The C compiler's command and its first arguments."""
    command = shlex.split(os.environ.get("CC") or "cc")
    if not shutil.which(command[0]):
        raise ToolMissing(f"the C loop needs the C compiler {command[0]}, which is not on PATH; install one, e.g. apt-get "
                          "install gcc, or name it in $CC")
    return command


@cache
def say(sentence: str) -> None:
    """Once on standard error."""
    print(f"emamba: {sentence}", file=sys.stderr, flush=True)


def _address(x: Array) -> ctypes.c_void_p:
    return x.ctypes.data_as(ctypes.c_void_p)


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads)


os.register_at_fork(after_in_child=_pool.cache_clear)  # a child has none of its parent's threads


@cache
def _compile(sources: tuple[Path, ...], options: tuple[str, ...], **macros: str | int) -> ctypes.CDLL:
    """compiled.c and the operators' `sources` with these types and sizes, for this machine. No file stays."""
    with tempfile.TemporaryDirectory() as folder:
        program, library = Path(folder) / "compiled.c", Path(folder) / "compiled.so"
        texts = [path.read_text(encoding="utf-8") for path in (ARITHMETIC, SOURCE, *sources)]
        program.write_text("\n".join(texts), encoding="utf-8")
        command = [*compiler(), *FLAGS, *options, *(f"-D{name}={value}" for name, value in macros.items()), str(program), "-o"]
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
    bound = max(bounds, default=0)
    if bound >= 1 << 63:
        raise DesignLimit(f"a number of the C loop can reach {bound.bit_length()} bits; at most 63 are possible: use narrower "
                          "formats")
    return "int32" if bound < 1 << 31 else "int64"
