"""The executors: one file a family of operators."""

from . import activation, attention, elementwise, lookup, norms, pool, reverse, scan, smooth, source, weighted, window  # noqa: F401
