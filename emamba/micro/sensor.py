"""What makes a model's tokens from a sensor's samples, in C: `model_sound.h` and `model_sound.c`."""

from fractions import Fraction

import numpy as np

from ..artifact import Artifact, Codec
from ..base.errors import DesignLimit
from ..base.formats import IntFormat
from ..sensors.sound import STEPS

Array = np.ndarray

BITS = 62
"""Of a product in `encoding`, at most."""
LOW, HIGH = 0, 64 * STEPS
"""Features of a sound, from and to."""

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
TOKEN = """
static const int64_t sound_factor[SOUND_BANDS] = {{{factors}}};
static const int64_t sound_offset[SOUND_BANDS] = {{{offsets}}};

void model_sound_token(const int16_t *samples, model_input *token, int32_t *room) {{
    int32_t features[SOUND_BANDS];
    sound_features(samples, features, room);
    for (int32_t k = 0; k < SOUND_BANDS; k++) {{
        int64_t value = sound_below(features[k] * sound_factor[k] + sound_offset[k], {shift});
        token[k] = (model_input)(value < {low} ? {low} : value > {high} ? {high} : value);
    }}
}}
"""


def encoding(codec: Codec, i: IntFormat, low: int = LOW, high: int = HIGH) -> tuple[Array, Array, int]:
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
    """The sources beside the model's, by name; none of an artifact without a front end."""
    front_end = artifact.front_end
    if front_end is None:
        return {}
    if front_end.bands != artifact.config.input_width:
        raise DesignLimit(f"the front end has {front_end.bands} bands, and the model reads {artifact.config.input_width} values "
                          "a token: leave it out of the data set's source.json")
    factor, offset, shift = encoding(artifact.codec, artifact.input)
    token = TOKEN.format(factors=", ".join(map(_word, factor)), offsets=", ".join(map(_word, offset)), shift=shift,
                         low=artifact.input.min, high=artifact.input.max)
    source = front_end.c_source().replace("\nvoid sound_features", "\nstatic void sound_features")
    header = HEADER.format(rate=front_end.rate, frame=front_end.frame, hop=front_end.hop, room=2 * front_end.points)
    return {"src/model_sound.h": header, "src/model_sound.c": f'#include "model_sound.h"\n{source}{token}'}


def _word(value: int) -> str:
    return f"INT64_C({value})"
