"""What makes a model's tokens from what a sensor gives, in C: model_sound.h and .c from samples, model_radar.h and .c from
points."""

from fractions import Fraction
from pathlib import Path

import numpy as np

from ..artifact import Artifact, Codec
from ..base.errors import DesignLimit
from ..base.formats import IntFormat
from ..sensors import points
from ..sensors.sound import STEPS

Array = np.ndarray

BITS = 62
"""Of a product in `encoding`, at most."""
LOW, HIGH = 0, 64 * STEPS
"""Features of a sound, from and to."""
POINTS = "radhar"
"""The data set whose tokens are features of a radar's points."""

HEADER = """\
/* From the samples of a sound to the tokens of the model, in integers alone; bit for bit as emamba's driver and data sets. */
#ifndef EMAMBA_MODEL_SOUND_H
#define EMAMBA_MODEL_SOUND_H

#include "model.h"

#define MODEL_SOUND_RATE {rate} /* samples a second */
#define MODEL_SOUND_FRAME {frame} /* samples of a token */
#define MODEL_SOUND_HOP {hop} /* samples from a token's first one to the next token's */
#define MODEL_SOUND_ROOM {room} /* int32_t that a call works in; they keep nothing */

/* samples [MODEL_SOUND_FRAME] to a token [MODEL_INPUT_WIDTH] for model_push */
void model_sound_token(const int16_t *samples, model_input *token, int32_t *room);

#endif
"""
RADAR_HEADER = f"""\
/* From the points of a radar frame to the token of the model, in integers alone; bit for bit as emamba's driver and data sets. */
#ifndef EMAMBA_MODEL_RADAR_H
#define EMAMBA_MODEL_RADAR_H

#include "model.h"

#define MODEL_RADAR_MOST {points.MOST} /* points of a frame that count, the first ones */

/* `count` points of a frame to a token [MODEL_INPUT_WIDTH] for model_push: x (depth), y (sideways), z (up) in 64ths of a metre, v
   (radial velocity) in 64ths of a metre a second, rounded half up and clipped to 16 bits. */
void model_radar_token(const int16_t (*points)[4], uint32_t count, model_input *token);

#ifdef MODEL_RADAR_FLOAT
/* Metres, or metres a second, in 64ths; no number gives 0. */
int16_t model_radar_fixed(float value);
#endif

#endif
"""
ENCODE = """
static const int64_t factor_of[MODEL_INPUT_WIDTH] = {{{factors}}};
static const int64_t offset_of[MODEL_INPUT_WIDTH] = {{{offsets}}};

static void encode(const int32_t *features, model_input *token) {{
    for (int32_t k = 0; k < MODEL_INPUT_WIDTH; k++) {{
        const int64_t product = features[k] * factor_of[k] + offset_of[k];
        const int64_t value = product >= 0 ? product >> {shift} : -1 - ((-1 - product) >> {shift});
        token[k] = (model_input)(value < {low} ? {low} : value > {high} ? {high} : value);
    }}
}}
"""
SOUND_TOKEN = """
void model_sound_token(const int16_t *samples, model_input *token, int32_t *room) {
    int32_t features[MODEL_INPUT_WIDTH];
    sound_features(samples, features, room);
    encode(features, token);
}
"""
RADAR_TOKEN = """
void model_radar_token(const int16_t (*points)[4], uint32_t count, model_input *token) {
    int32_t features[MODEL_INPUT_WIDTH];
    radar_features(points, count < MOST ? (long)count : MOST, features);
    encode(features, token);
}
"""


def encoding(codec: Codec, i: IntFormat, low: int, high: int) -> tuple[Array, Array, int]:
    """Integers with which `codec.encode` of an integer is (integer · factor + offset) >> shift, clipped.

    Returns
    -------
    factor and offset [input width] int64, and the shift; equal for every integer in low..high, which is tried

    Raises
    ------
    DesignLimit: no such integers of at most BITS bits
    """
    means, deviations = np.zeros(0) if codec.mean is None else codec.mean, np.zeros(0) if codec.std is None else codec.std
    scales = [Fraction(2) ** i.frac / Fraction(float(std)) for std in deviations]
    offsets = [Fraction(1, 2) - Fraction(float(mean)) * scale for mean, scale in zip(means, scales, strict=True)]
    widest = max(max(map(abs, scales)) * max(abs(low), abs(high)), *map(abs, offsets))
    shift = BITS - 1 - int(widest).bit_length()
    factor, offset = (np.array([int(value * 2**shift) for value in values], np.int64) for values in (scales, offsets))
    tried = np.arange(low, high + 1)
    for k in range(len(factor)):
        own = np.zeros((1, len(tried), len(factor)))
        own[0, :, k] = tried
        found = np.clip(tried * factor[k] + offset[k] >> shift, i.min, i.max)
        if not np.array_equal(found, codec.encode(own, i)[0, :, k]):
            raise DesignLimit(f"the codec of channel {k} has no integers of {BITS} bits that give its rounding")
    return factor, offset, shift


def files(artifact: Artifact) -> dict[str, str]:
    """The sources beside the model's, by name; none of an artifact whose tokens come from no such sensor."""
    front_end, width = artifact.front_end, artifact.config.input_width
    if artifact.data.get("name") == POINTS and width == points.FEATURES:
        code = Path(points.__file__).with_suffix(".c").read_text(encoding="utf-8")
        code = code.replace("\nvoid radar_features", "\nstatic void radar_features")
        start = code.index("/* metres")
        end = code.index("}\n\n", start) + 2  # a float in, where that is asked for
        fixed = code[start:end].replace("radar_fixed", "model_radar_fixed")
        code = f"{code[:start]}#ifdef MODEL_RADAR_FLOAT\n{fixed}#endif\n{code[end:]}"
        encode = _encode(artifact, -int(points.BOX.max()), int(points.ROOT.max()))
        return {"src/model_radar.h": RADAR_HEADER, "src/model_radar.c": f'#include "model_radar.h"\n{code}{encode}{RADAR_TOKEN}'}
    if front_end is None:
        return {}
    if front_end.bands != width:
        raise DesignLimit(f"the front end has {front_end.bands} bands, and the model reads {width} values a token: leave it out "
                          "of the data set's source.json")
    code = front_end.c_source().replace("\nvoid sound_features", "\nstatic void sound_features")
    header = HEADER.format(rate=front_end.rate, frame=front_end.frame, hop=front_end.hop, room=2 * front_end.points)
    return {"src/model_sound.h": header,
            "src/model_sound.c": f'#include "model_sound.h"\n{code}{_encode(artifact, LOW, HIGH)}{SOUND_TOKEN}'}


def _encode(artifact: Artifact, low: int, high: int) -> str:
    factor, offset, shift = encoding(artifact.codec, artifact.input, low, high)
    return ENCODE.format(factors=", ".join(map(_word, factor)), offsets=", ".join(map(_word, offset)), shift=shift,
                         low=artifact.input.min, high=artifact.input.max)


def _word(value: int) -> str:
    return f"INT64_C({value})"
