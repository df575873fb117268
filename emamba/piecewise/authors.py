"""The authors' tables: knots, m, c of y = m·x + c between neighbouring knots, as printed in their hardware."""

import numpy as np

from ..base.errors import SettingError

Array = np.ndarray

AUTHORS = {
    "silu": (
        (-7, -6.417, -5.821, -5.205, -4.560, -3.862, -3.033, -1.547, -0.998, -0.594, -0.294, -0.093, -0.004, 0.004, 0.098, 0.327,
         1.085, 7),
        (-0.007, -0.011, -0.018, -0.029, -0.046, -0.072, -0.089, 0.005, 0.142, 0.287, 0.406, 0.476, 0.500, 0.526, 0.605, 0.856,
         1.045),
        (-0.055, -0.083, -0.123, -0.180, -0.258, -0.358, -0.409, -0.265, -0.127, -0.041, -0.006, 0, 0, 0, -0.008, -0.117, -0.324),
    ),
    "exp": (
        (-4, -3.513, -3.026, -2.539, -2.052, -1.565, -1.077, -0.590, -0.103, 0.384, 0.871, 1),
        (0.024, 0.038, 0.063, 0.102, 0.166, 0.270, 0.439, 0.714, 1.162, 1.891, 2.550),
        (0.113, 0.165, 0.238, 0.337, 0.468, 0.631, 0.813, 0.976, 1.022, 0.742, 0.160),
    ),
}


def printed(name: str, *, five_bits: bool = False) -> tuple[Array, Array, Array]:
    """Knots, m, c; with `five_bits`, the slopes rounded to 5 fraction bits."""
    if name not in AUTHORS:
        raise SettingError(f"the authors have no table for {name}; use the rule minimax or chord")
    knots, m, c = (np.array(v, dtype=np.float64) for v in AUTHORS[name])
    return knots, np.round(m * 32) / 32 if five_bits else m, c
