"""From the samples of a sound to the log-mel features that a model reads, in integers alone; `sound.c` gives the same, bit for
bit.

A frame of samples of 16 bits goes through a Hann window, a Fourier transform without loss of its leading bits, triangular bands
that are evenly spaced on the mel scale, mel = ln(1 + f/700 Hz), and a logarithm: a feature is 256·log2(energy + floor). All
formats are our choice; `reference` is the same in floating point.

It needs NumPy alone: a board runs this file.
"""

from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from ..base.errors import InputError

Array = np.ndarray

KIND = "log_mel"
STEPS = 256
"""Of a feature, to one of twice the energy."""
FRAME, HOP = 0.025, 0.010
"""Seconds of a frame, and from one to the next, as is usual."""
FLOOR = 1e-6
"""Energy of silence, where a sound of ±1 is full scale."""
WINDOW_BITS, TURN_BITS, WEIGHT_BITS, LOG_BITS = 15, 14, 10, 7
"""Fraction bits of the window, of the transform's factors and of the bands' weights; address bits of the logarithm's table."""
MOST_FRACTION = 6
"""Fraction bits of a sample after the window, where 32 bits hold them."""
RATES, BANDS = (1_000, 200_000), (1, 128)


@dataclass(frozen=True)
class LogMel:
    """`bands` features of every frame of `frame` samples, one frame every `hop` samples, of `rate` samples a second.

    Raises
    ------
    InputError: a value outside its limits
    """

    rate: int
    bands: int
    frame: int
    hop: int

    def __post_init__(self):
        limits = {"rate": RATES, "bands": BANDS, "frame": (2, RATES[1] // 20), "hop": (1, RATES[1])}
        for name, (least, most) in limits.items():
            value = getattr(self, name)
            if type(value) is not int or not least <= value <= most:
                raise InputError(f"the front end of a sound has {name} = {repr(value)[:40]}; it must lie in {least}..{most}")

    @classmethod
    def of(cls, fields: object) -> "LogMel":
        """Of `fields`, as they are stored. Raises InputError where they are none."""
        if not isinstance(fields, dict) or {*fields} != {"kind", *cls.__dataclass_fields__} or fields["kind"] != KIND:
            raise InputError(f"a front end is a table of kind, which is '{KIND}', {', '.join(cls.__dataclass_fields__)}")
        return cls(**{name: fields[name] for name in cls.__dataclass_fields__})

    @classmethod
    def of_seconds(cls, rate: int, bands: int, frame: float, hop: float = HOP) -> "LogMel":
        """With frames of `frame` seconds, one every `hop`."""
        return cls(rate, bands, max(2, round(frame * rate)), max(1, round(hop * rate)))

    @property
    def fields(self) -> dict:
        """What an artifact stores of it."""
        return {"kind": KIND, **asdict(self)}

    @property
    def points(self) -> int:
        """Of the transform: the power of two from the frame's samples on."""
        return 1 << (self.frame - 1).bit_length()

    @cached_property
    def window(self) -> Array:
        """[frame]"""
        return _rounded(np.hanning(self.frame) if self.frame > 2 else np.ones(self.frame), WINDOW_BITS)

    @cached_property
    def fraction(self) -> int:
        """Fraction bits of a sample after the window: no sum of a frame's samples is beyond 31 bits."""
        return min(MOST_FRACTION, 30 - int(self.window.sum()).bit_length())

    @cached_property
    def turns(self) -> tuple[Array, Array]:
        """Cosine and sine of 2π·k/points, k < points/2."""
        angle = 2 * np.pi * np.arange(self.points // 2) / self.points
        return _rounded(np.cos(angle), TURN_BITS), _rounded(np.sin(angle), TURN_BITS)

    @cached_property
    def bins(self) -> tuple[Array, Array]:
        """Of every frequency, k·rate/points up to rate/2: the band on whose rising side it is, `bands` on the falling side of the
        last one, and its weight there; in the band below its weight is the rest."""
        hertz = np.arange(self.points // 2 + 1) * self.rate / self.points
        place = np.log1p(hertz / 700) / np.log1p(self.rate / 2 / 700) * (self.bands + 1)
        corners = 700 * np.expm1(np.arange(self.bands + 2) / (self.bands + 1) * np.log1p(self.rate / 2 / 700))
        band = np.minimum(place.astype(np.int64), self.bands)
        rise = (hertz - corners[band]) / (corners[band + 1] - corners[band])
        return band, _rounded(np.clip(rise, 0, 1), WEIGHT_BITS)

    @cached_property
    def shift(self) -> int:
        """Of a power, before it is weighted: the samples' fraction, and what 63 bits cannot hold (Parseval)."""
        samples = 2 * (15 + self.fraction) + (self.points * self.frame).bit_length()
        return max(2 * self.fraction, samples + WEIGHT_BITS - 62)

    @cached_property
    def floor(self) -> int:
        """Added to each energy."""
        return max(1, round(FLOOR * self.frame * 2.0 ** (30 + 2 * self.fraction + WEIGHT_BITS - self.shift)))

    @cached_property
    def logarithms(self) -> Array:
        """STEPS·log2(1 + (k + ½)/2^LOG_BITS)."""
        places = (np.arange(1 << LOG_BITS) + 0.5) / (1 << LOG_BITS)
        return np.floor(STEPS * np.log2(1 + places) + 0.5).astype(np.int64)

    def frames(self, samples: int) -> int:
        """Of so many samples."""
        return max(0, (samples - self.frame) // self.hop + 1)

    def features(self, samples: Array) -> Array:
        """int32 [frames, bands] of samples [n] of 16 bits, as `fixed` gives them.

        Raises
        ------
        InputError: other samples
        """
        samples = np.asarray(samples)
        if samples.ndim != 1 or samples.dtype != np.int16:
            raise InputError(f"samples of a sound are an array [n] of int16, not {samples.dtype} {list(samples.shape)}: take "
                             "`fixed`")
        starts = np.arange(self.frames(len(samples)))[:, None] * self.hop
        framed = samples[starts + np.arange(self.frame)].astype(np.int64)
        power = self._power(framed * self.window >> (WINDOW_BITS - self.fraction)) >> self.shift
        band, rise = self.bins
        energy = np.zeros((len(power), self.bands + 2), np.int64)  # the first and the last take what no band does
        np.add.at(energy, (slice(None), band + 1), power * rise)
        np.add.at(energy, (slice(None), band), power * ((1 << WEIGHT_BITS) - rise))
        return self._log(energy[:, 1:-1] + self.floor).astype(np.int32)

    def _power(self, x: Array) -> Array:
        """|X|² [frames, points/2 + 1] of x [frames, frame], by a transform of radix 2, decimated in time."""
        points, (cosine, sine) = self.points, self.turns
        order = np.zeros(1, np.int64)
        while len(order) < points:
            order = np.concatenate([2 * order, 2 * order + 1])
        real = np.zeros((len(x), points), np.int64)
        real[:, :self.frame] = x
        real = real[:, order]
        imaginary = np.zeros_like(real)
        half = 1
        while half < points:
            c, s = cosine[::points // 2 // half], sine[::points // 2 // half]
            re, im = (part.reshape(len(x), points // half // 2, 2, half) for part in (real, imaginary))
            turned_re = re[:, :, 1] * c + im[:, :, 1] * s + (1 << TURN_BITS - 1) >> TURN_BITS
            turned_im = im[:, :, 1] * c - re[:, :, 1] * s + (1 << TURN_BITS - 1) >> TURN_BITS
            real = np.stack([re[:, :, 0] + turned_re, re[:, :, 0] - turned_re], 2).reshape(len(x), points)
            imaginary = np.stack([im[:, :, 0] + turned_im, im[:, :, 0] - turned_im], 2).reshape(len(x), points)
            half *= 2
        return real[:, :points // 2 + 1] ** 2 + imaginary[:, :points // 2 + 1] ** 2

    def _log(self, value: Array) -> Array:
        exponent = np.frexp(value.astype(np.float64))[1].astype(np.int64) - 1
        exponent -= value >> exponent == 0  # a value that a float rounds up to the next power of two
        below = np.where(exponent > LOG_BITS, value >> np.maximum(exponent - LOG_BITS, 0),
                         value << np.maximum(LOG_BITS - exponent, 0))
        return STEPS * exponent + self.logarithms[below - (1 << LOG_BITS)]

    def c_source(self) -> str:
        """C99 of `void sound_features(const int16_t *samples, int32_t *features, int32_t *room)`: `sound.c` with this front end's
        numbers and tables."""
        (cosine, sine), (band, rise) = self.turns, self.bins
        numbers = {"RATE": self.rate, "FRAME": self.frame, "HOP": self.hop, "POINTS": self.points, "BANDS": self.bands,
                   "FRACTION": self.fraction, "SHIFT": self.shift}
        tables = {"uint16_t": {"window": self.window, "rise": rise}, "int16_t": {"cosine": cosine, "sine": sine},
                  "uint8_t": {"band": band, "logarithm": self.logarithms}}
        named = ", ".join(f"SOUND_{name} = {value}" for name, value in numbers.items())
        filled = [f"static const {kind} sound_{name}[{len(table)}] = {{{', '.join(map(str, table))}}};"
                  for kind, own in tables.items() for name, table in own.items()]
        return "\n".join(["#include <stdint.h>", "", f"enum {{ {named} }};", f"#define SOUND_FLOOR UINT64_C({self.floor})",
                          *filled, Path(__file__).with_suffix(".c").read_text(encoding="utf-8")])

    def reference(self, samples: Array) -> Array:
        """The same in floating point, without a rounding."""
        x = np.asarray(samples, np.float64) / (1 << 15)
        starts = np.arange(self.frames(len(x)))[:, None] * self.hop
        window = np.hanning(self.frame) if self.frame > 2 else np.ones(self.frame)
        power = abs(np.fft.rfft(x[starts + np.arange(self.frame)] * window, self.points)) ** 2 / self.frame
        hertz = np.arange(self.points // 2 + 1) * self.rate / self.points
        corners = 700 * np.expm1(np.linspace(0, np.log1p(self.rate / 2 / 700), self.bands + 2))
        low, middle, high = (corners[k:k + self.bands, None] for k in range(3))
        weights = np.minimum((hertz - low) / (middle - low), (high - hertz) / (high - middle)).clip(0)
        full = np.log2(2.0 ** (30 + 2 * self.fraction + WEIGHT_BITS - self.shift) * self.frame)
        return STEPS * (np.log2(power @ weights.T + FLOOR) + full)


def fixed(samples: Array) -> Array:
    """Samples of ±1, rounded half up to 16 bits, clipped."""
    return np.clip(np.floor(np.asarray(samples, np.float64) * (1 << 15) + 0.5), -1 << 15, (1 << 15) - 1).astype(np.int16)


def _rounded(values: Array, bits: int) -> Array:
    return np.floor(values * (1 << bits) + 0.5).astype(np.int64)
