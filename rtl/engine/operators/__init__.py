"""The executors: one file a family of operators."""

from . import activation, elementwise, norms, pool, scan, source, weighted  # noqa: F401
