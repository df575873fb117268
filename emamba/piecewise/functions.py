"""The scalar functions of the model, and what a fit needs to know of any function: its name and its values."""

from collections.abc import Callable

import numpy as np

from ..base.errors import InputError, SettingError

Array = np.ndarray
Domain = tuple[float, float]
Scalar = Callable[[Array], Array]


def _exp(x: Array) -> Array:
    return np.exp(np.minimum(x, 600.0))  # saturates in every format long before; keeps scaled values finite


def _silu(x: Array) -> Array:
    decay = np.exp(-np.abs(x))
    return x * np.where(x >= 0, 1.0, decay) / (1.0 + decay)


def _softplus(x: Array) -> Array:
    return np.maximum(x, 0.0) + np.log1p(np.exp(-np.abs(x)))


def _sigmoid(x: Array) -> Array:
    decay = np.exp(-np.abs(x))
    return np.where(x >= 0, 1.0, decay) / (1.0 + decay)


FUNCTIONS: dict[str, Scalar] = {"silu": _silu, "exp": _exp, "softplus": _softplus, "sigmoid": _sigmoid}

EVERYWHERE: Domain = (-np.inf, np.inf)
ARGUMENTS: dict[str, Domain] = {"exp": (-np.inf, 0.0)}
"""Arguments that occur, where not all do. δ ≥ 0 and A < 0: exp never sees a positive one, so no segment is spent there."""


def name_of(function: str | Scalar) -> str:
    return function if isinstance(function, str) else getattr(function, "__name__", type(function).__name__)


def scalar(function: str | Scalar) -> Scalar:
    """The function of a name; a callable is itself."""
    if callable(function):
        return function
    if function not in FUNCTIONS:
        raise SettingError(f"there is no piecewise-linear function {function!r}; choose one of {', '.join(FUNCTIONS)}")
    return FUNCTIONS[function]


def values(function: str | Scalar, x: Array) -> Array:
    """The function at real arguments. Infinite values are allowed: formats saturate."""
    with np.errstate(all="ignore"):
        y = np.asarray(scalar(function)(x), np.float64)
    if y.shape != x.shape:
        raise InputError(f"{name_of(function)} makes the shape {list(y.shape)} from {list(x.shape)}; "
                         "it must map an array to one of the same shape")
    if np.isnan(y).any():
        raise SettingError(f"{name_of(function)}({x[np.isnan(y)][0]:g}) is not a number; narrow the input's range or the domain")
    return y


def arguments(function: str | Scalar) -> Domain:
    """The arguments that occur."""
    return ARGUMENTS.get(function, EVERYWHERE) if isinstance(function, str) else EVERYWHERE
