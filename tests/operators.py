"""Random operators of any shape, for tests."""

import numpy as np

from emamba.formats import IntFormat, Rounding
from emamba.operators import Linear

I8 = IntFormat(8, True, 5)


def linear(rng, inputs, outputs, *, relu=False, dyadic=False, i=I8, o=I8, rounding=Rounding.HALF_UP) -> Linear:
    w = IntFormat(8, True, 7)
    multiplier = rng.integers(1, 1 << 12, outputs) if dyadic else np.ones(outputs, np.int64)
    return Linear(
        o=o, rounding=rounding, weight=rng.integers(-127, 128, (outputs, inputs)), bias=rng.integers(-9999, 9999, outputs),
        multiplier=multiplier, i=i, w=w, shift=5 + (inputs.bit_length() // 2) + (11 if dyadic else 0), relu=relu,
    )
