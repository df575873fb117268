"""The order of the files, and what holds for all of them."""

import os

import pytest

os.environ |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}  # before NumPy comes: each process has one core

from emamba.base import progress


def pytest_collection_modifyitems(items):
    """Slow files first, so that no process is alone with one at the end."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)


@pytest.fixture(autouse=True, scope="session")
def silent():
    """No lines of progress, which a slow machine would put among those that tests compare."""
    progress.EVERY = 1e9
