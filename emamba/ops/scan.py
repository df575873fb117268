"""The selective scan, the recurrence of a Mamba."""

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from .. import piecewise
from ..base import arithmetic as arith
from ..base.errors import DesignLimit, InputError, SettingError
from ..base.formats import IntFormat
from ..piecewise import Segments
from .base import Array, Operator, check_bound, check_input, check_matrix, check_same, check_shift, inside, register, rounded
from .certificate import certify
from .decay import SLOWEST, Decays, argument_format
from .scales import FINEST, best_frac, codes_of, decay_frac, rates_of

STATE_SLACK = 1.25
"""Room above the largest state seen in calibration, for state_scale = 'calibrated' (our choice)."""


@register
@dataclass(frozen=True, kw_only=True, eq=False)
class Scan(Decays, Operator):
    """The selective scan of d_inner channels with d_state states each.

    p = δ·A, rounded and clipped to what `decay` reads; Ā = exp(p) by `decay`, and exactly 1 where δ = 0 if `hold` (our choice:
    the float state then keeps its value, while the paper's INT8 Ā cannot exceed 127/128); h_wide = saturate(Ā·h + b);
    y = requantize(C·h_wide + D·u); h = saturate(h_wide >> Ā's fraction bits). The input term b is (δ·u)·B rounded to h_wide's
    scale (`delta_b` false, our choice: one multiplier and one rounding fewer), or the paper's (requantize(δ·B)·u) << Ā's
    fraction bits (`delta_b` true; then `b_bar` is its format).

    A [d_inner, d_state] in format `a` (A ≤ 0), D [d_inner] in format `d`; h0 [d_inner, d_state] in format `h`, the state before
    the first token, or None for 0. `h` is the stored state (paper: INT17), `h_wide` the
    recurrent state that y reads (paper: INT24), with h_wide.frac = h.frac + a_bar.frac.
    """

    A: Array
    D: Array
    u: IntFormat
    dt: IntFormat
    B: IntFormat
    C: IntFormat
    a: IntFormat
    d: IntFormat
    decay: Segments
    h: IntFormat
    h_wide: IntFormat
    delta_b: bool = False
    b_bar: IntFormat | None = None
    hold: bool = True
    h0: Array | None = None

    inputs = 4  # u, dt, B, C
    unit = "decay"
    recurrent = loadable = True
    optional = ("h0",)
    argument = 1
    source = Path(__file__).with_suffix(".c")

    def __post_init__(self):
        check_matrix("A", self.A)
        self._check_shapes()
        arith.check_range("A", self.A, self.a)
        if (self.A > 0).any():
            raise DesignLimit("A holds a positive value, so the state would grow without bound; A must be ≤ 0")
        arith.check_range("D", self.D, self.d)
        if self.h0 is not None:
            check_same("the shape of h0", self.h0.shape, (self.width, self.d_state))
            arith.check_range("h0", self.h0, self.h)
        if not self.decay.i.signed or self.decay.i.bits > self.p.bits or self.argument_shift < 0:
            raise DesignLimit(f"the decay reads {self.decay.i}: it must read δ·A, {self.p}, or fewer bits of it")
        check_same("the fraction bits of h_wide", self.h_wide.frac, self.h.frac + self.a_bar.frac)
        if self.delta_b:
            check_same("the fraction bits of h", self.h.frac, self._b_bar.frac + self.u.frac)
        for name in ("b_bar_shift" if self.delta_b else "term_shift", "y_shift"):
            check_shift(name, getattr(self, name))
        if not 0 <= self.d_shift <= 40:
            raise DesignLimit(f"D's {self.d.frac} fraction bits are out of range: D·u must align to y's accumulator by a left "
                              f"shift of 0..40, not {self.d_shift}; lower D's fraction bits")
        if self.delta_b:
            check_bound("δ·B", self.dt.magnitude * self.B.magnitude, self.b_bar_shift)
        check_bound("y's accumulator", self.y_bound, self.y_shift)
        check_bound("the recurrent state", (self.h.magnitude << self.a_bar.bits) + self.term_bound)

    def _check_shapes(self) -> None:
        check_same("the shape of D", self.D.shape, (self.A.shape[0],))

    @property
    def width(self) -> int:
        return self.A.shape[0]

    @property
    def d_state(self) -> int:
        return self.A.shape[1]

    @property
    def heads(self) -> int:
        """Channels of δ: parts of the channels that share one δ and one Ā."""
        return self.width

    @property
    def groups(self) -> int:
        """Parts of the channels that have a B and a C of their own."""
        return 1

    @property
    def direct(self) -> Array:
        """D of every channel."""
        return self.D

    @property
    def term_shift(self) -> int:
        """From (δ·u)·B's scale to h_wide's."""
        return self.dt.frac + self.u.frac + self.B.frac - self.h_wide.frac

    @property
    def _b_bar(self) -> IntFormat:
        if self.b_bar is None:
            raise InputError("delta_b needs the format b_bar")
        return self.b_bar

    @property
    def b_bar_shift(self) -> int:
        """From δ·B's scale to b_bar's."""
        return self.dt.frac + self.B.frac - self._b_bar.frac

    @property
    def d_shift(self) -> int:
        """From D·u's scale (left) to y's accumulator."""
        return self.C.frac + self.h_wide.frac - self.d.frac - self.u.frac

    @property
    def y_shift(self) -> int:
        return self.C.frac + self.h_wide.frac - self.o.frac

    @property
    def term_bound(self) -> int:
        """Largest |b|."""
        if self.delta_b:
            return (self._b_bar.magnitude * self.u.magnitude) << self.a_bar.frac
        return arith.round_shift(self.dt.magnitude * self.u.magnitude * self.B.magnitude, self.term_shift, self.rounding) + 1

    @cached_property
    def y_bound(self) -> int:
        """Largest |accumulator of y|."""
        direct = (int(np.abs(self.D).max()) * self.u.magnitude) << self.d_shift
        return self.d_state * self.C.magnitude * self.h_wide.magnitude + direct

    def check_inputs(self, producers):
        states = self.groups * self.d_state
        for name, producer, width in zip(["u", "dt", "B", "C"], producers, [self.width, self.heads, states, states], strict=True):
            check_input(name, producer, width, getattr(self, name))

    @cached_property
    def word(self) -> np.dtype:
        """Type of the state and its input term."""
        if self.delta_b:
            term = arith.word(self.dt.magnitude * self.B.magnitude, self.b_bar_shift, self._b_bar)
        else:
            term = arith.word(self.dt.magnitude * self.u.magnitude * self.B.magnitude, self.term_shift)
        state = arith.word((self.h.magnitude << self.a_bar.bits) + self.term_bound, self.a_bar.frac, self.h_wide)
        return np.promote_types(term, state)

    def step(self, h: Array, u: Array, dt: Array, B: Array, C: Array) -> tuple[Array, Array, Array]:
        """One token: h, state [batch, d_inner, d_state]; u [batch, d_inner]; dt [batch, heads]; B, C [batch, groups · d_state] →
        y, h, h_wide."""
        h, u, dt, B = (x.T.astype(self.word, copy=False) for x in (h, u, dt, B))  # [d_state, d_inner, batch]: the fastest
        y_word = arith.word(self.y_bound, self.y_shift, self.o)
        decay, dt = (self._of_channels(x) for x in (self._look_up_decays(dt), dt))
        B, C = self._by_state(B), self._by_state(C.T)
        if self.delta_b:
            b_bar = arith.requantize(dt * B, self.b_bar_shift, self._b_bar, self.rounding)
            term = (b_bar * u) << self.a_bar.frac
        else:
            term = arith.round_shift((dt * u) * B, self.term_shift, self.rounding)
        h_wide = decay * h
        h_wide += term
        h_wide = arith.saturate(h_wide, self.h_wide)
        product = np.multiply(h_wide, C, dtype=arith.word(self.C.magnitude * self.h_wide.magnitude))
        acc = product.sum(0, dtype=y_word) + (np.multiply(self.direct[:, None], u, dtype=y_word) << self.d_shift)
        y = arith.requantize(acc, self.y_shift, self.o, self.rounding)
        return y.T, arith.requantize(h_wide, self.a_bar.frac, self.h, self.rounding).T, h_wide.T

    def _of_channels(self, x: Array) -> Array:
        """x [..., heads, batch] → [..., d_inner, batch]."""
        return x

    def _by_state(self, x: Array) -> Array:
        """x [groups · d_state, batch] → [d_state, d_inner or 1, batch]."""
        return x[:, None]

    def start(self, batch: int) -> Array:
        """The state before the first token."""
        h = np.zeros((batch, self.width, self.d_state), self.word, order="F")
        if self.h0 is not None:
            h += self.h0.astype(self.word)
        return h

    def __call__(self, u: Array, dt: Array, B: Array, C: Array) -> Array:
        batch, length, _ = u.shape
        h = self.start(batch)
        y = np.empty_like(u, dtype=arith.word(self.o.magnitude))
        for t in range(length):
            y[:, t], h, _ = self.step(h, u[:, t], dt[:, t], B[:, t], C[:, t])
        return y

    def resume(self, before, u, dt, B, C):
        """The state is h, [batch, d_inner, d_state]."""
        h, outputs = self.start(len(u)) if before is None else before, []
        for t in range(u.shape[1]):
            y, h, _ = self.step(h, u[:, t], dt[:, t], B[:, t], C[:, t])
            outputs.append(y)
        return np.stack(outputs, 1), h

    # -- a node of this kind --------------------------------------------------------------------------------------------------

    @classmethod
    def shapes(cls, node, widths):
        return {"A_log": (node.width, widths[2]), "D": (node.width,), "h0": (node.width, widths[2])}

    @classmethod
    def initial(cls, xp, node, name, shapes):
        channels, states = shapes["A_log"]
        if name != "A_log":
            return xp.full(shapes[name], 1.0 if name == "D" else 0.0)
        return xp.log(xp.arange(1.0, states + 1)).repeat(channels, 1)  # A = -1 … -N (Mamba, paper)

    @classmethod
    def prepared(cls, xp, parameters):
        return {"A": -xp.exp(parameters["A_log"])} | {name: parameters[name] for name in ("D", "h0") if name in parameters}

    @classmethod
    def real(cls, xp, node, parameters, u, dt, B, C):
        found = []
        for *part, h0 in cls.parts(xp, node, parameters, u, dt, B, C):
            y = xp.scan(*part)
            if h0 is not None:  # what is left of it after each token
                _, dt_part, _, C_part, A, _ = part
                y = y + (xp.exp(xp.cumsum(dt_part, 1)[..., None] * A) * h0 * C_part[:, :, None]).sum(-1)
            found.append(y)
        return found[0] if len(found) == 1 else xp.concatenate(found, -1)

    @classmethod
    def parts(cls, xp, node, parameters, u, dt, B, C) -> list[tuple]:
        """The scans of one decay a channel and state, side by side, that the node consists of: u, δ [b, l, e], B, C [b, l, n],
        A [e, n], D [e], h0 [e, n] or None."""
        return [(u, dt, B, C, parameters["A"], parameters["D"], parameters.get("h0"))]

    @classmethod
    def _shape(cls, node, q) -> dict:
        """The fields of the operator that only the graph tells."""
        return {}

    @classmethod
    def quantize(cls, node, q):
        settings, p = q.settings, q.parameters(node)
        u, dt, B, C = (q.formats[name] for name in node.inputs)
        step, drive = (q.values[name] for name in node.inputs[1:3])
        bits, fraction = settings.weight_bits, settings.decay_bits - 1
        a = q.given(f"{node.name}.A")
        if a is None:
            a = IntFormat(settings.a_bits, True, min(decay_frac(p["A"], settings.a_bits, step), SLOWEST - dt.frac))
        A = rates_of(p["A"], a)
        product = IntFormat(dt.bits + a.bits, True, dt.frac + a.frac)
        argument = argument_format(product, -int(A.min()) * dt.max, settings.decay_bits)
        seen = piecewise.products(codes_of(step, dt), A, dt, argument, hold=settings.hold, shift=product.frac - argument.frac,
                                  rounding=settings.rounding)
        decay = q.fit("exp", argument, IntFormat(settings.decay_bits, True, fraction), seen)
        d_frac, wide_bits = best_frac(p["D"], bits, tiny=True), settings.state_bits
        given_d, state = q.given(f"{node.name}.D"), q.given(f"{node.name}.state")
        o, states, seen_y = q.formats[node.name], q.largest_state(node), float(np.abs(q.values[node.name]).max())

        def scan(h_frac: int) -> Scan:
            coarse = 2.0 ** -(C.frac + h_frac + fraction)
            if 0 < seen_y < coarse:
                raise DesignLimit(f"a step of C times the state, which reaches {states:g}, is {coarse:g}, above the outputs of "
                                  f"at most {seen_y:g}: raise state_bits ({wide_bits}), or rescale B and C")
            d = given_d or IntFormat(bits, True, max(-FINEST, min(d_frac, C.frac + h_frac + fraction - u.frac)))
            b_bar = IntFormat(settings.activation_bits, True, h_frac - u.frac) if settings.input_term == "delta_b" else None
            h = IntFormat(wide_bits - fraction, True, h_frac)
            return cls(A=A, D=codes_of(p["D"], d), h0=codes_of(p["h0"], h) if "h0" in p else None, **cls._shape(node, q), u=u,
                       dt=dt, B=B, C=C, a=a, d=d, decay=decay, h=h, h_wide=IntFormat(wide_bits, True, h_frac + fraction),
                       delta_b=b_bar is not None, b_bar=b_bar, hold=settings.hold, o=o, rounding=settings.rounding)

        calibrated = wide_bits - 1 - int(np.ceil(np.log2(max(states, 1e-30) * STATE_SLACK))) - fraction
        if settings.input_term == "delta_b":
            largest = float(np.abs(step.max() * drive).max())
            calibrated = min(calibrated, u.frac + settings.activation_bits - 1 - int(np.ceil(np.log2(max(largest, 1e-30)))))
        aligned = d_frac + u.frac - C.frac + min(40, FINEST + 2 - bits - u.bits)  # D·u, shifted to y's sum, fits it
        driven = dt.frac + u.frac + B.frac + min(40, FINEST - dt.bits - u.bits - B.bits)  # so does the input term the state
        h_frac = min(calibrated, 40, min(aligned, driven, 40 + o.frac - C.frac) - fraction)
        if state is not None:
            if state.bits != wide_bits or not state.signed:
                raise SettingError(f"formats: its state is given as {state}, but state_bits says INT{wide_bits}")
            return scan(state.frac - fraction)
        if settings.state_scale == "certificate":
            while not certify(scan(h_frac)).holds:
                h_frac -= 1
                if h_frac < -FINEST:
                    raise DesignLimit("no scale of the state makes overflow impossible; use state_scale = 'calibrated'")
        return scan(h_frac)

    # -- training -------------------------------------------------------------------------------------------------------------

    def retrained(self, parameters, **unit):
        op = replace(self, A=rounded(parameters["A"] / self.a.step, self.a.min, -1),
                     D=rounded(parameters["D"] / self.d.step, self.d.min, self.d.max), **unit)
        if self.h0 is not None:
            op = replace(op, h0=rounded(parameters["h0"] / self.h.step, self.h.min, self.h.max))
        return op._certified() if certify(self).holds else op

    def _certified(self) -> "Scan":
        """The finest scale of the state, not finer than now, at which the certificate holds."""
        op = self
        while not certify(op).holds:
            frac, wide = op.h.frac - 1, op.h_wide.frac - 1
            coarser = min(op.d.frac, op.C.frac + wide - op.u.frac)  # D·u is aligned by a left shift
            D, h0 = op.D >> (op.d.frac - coarser), None if op.h0 is None else op.h0 >> 1
            op = replace(op, h=replace(op.h, frac=frac), h_wide=replace(op.h_wide, frac=wide), d=replace(op.d, frac=coarser), D=D,
                         h0=h0, b_bar=op.b_bar and replace(op.b_bar, frac=op.b_bar.frac - 1))
        return op

    def values(self):
        found = {"A": self.A * self.a.step, "D": self.D * self.d.step}
        return found if self.h0 is None else found | {"h0": self.h0 * self.h.step}

    def unit_function(self, node) -> str:
        return "exp"

    # -- C --------------------------------------------------------------------------------------------------------------------

    @property
    def state_bound(self) -> int:
        """Largest |number| in a step of the recurrence; y's sum has 64 bits."""
        factor = self.dt.magnitude * (1 if self.delta_b else self.u.magnitude)
        term = inside(factor * self.B.magnitude, self.b_bar_shift if self.delta_b else self.term_shift)
        state = (self.h.magnitude << self.a_bar.bits) + self.term_bound
        return max(term, state, inside(self.p.magnitude, self.argument_shift), inside(self.h_wide.magnitude, self.a_bar.frac),
                   self.C.magnitude)

    def c(self, loop):
        term = (loop.format(self, self.b_bar_shift, self._b_bar) if self.delta_b
                else loop.format(self, self.term_shift, self.h_wide))
        return "scan_delta_b" if self.delta_b else "scan_delta_u", {
            **self.c_decays(loop), "left": (self.a_bar.frac, 0), "direct": loop.pointer(self.direct << self.d_shift, "int64"),
            **loop.keep((self.width, self.d_state), "STATE", (self.h.min, self.h.max)),
            "start": loop.pointer(self.start(1), "STATE"), "o": loop.format(self, self.y_shift), "term": term,
            "h": loop.format(self, self.a_bar.frac, self.h), "h_wide": loop.format(self, 0, self.h_wide)}

    # -- hardware -------------------------------------------------------------------------------------------------------------

    def largest(self):
        return replace(self, A=np.full_like(self.A, self.a.min), D=np.full_like(self.D, self.d.max))
