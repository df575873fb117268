"""The order of the files, and what several of them use."""

import pytest

from emamba.base import progress


def pytest_collection_modifyitems(items):
    """Slow files first, so that no process is alone with one at the end."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)


@pytest.fixture(scope="module")
def one_thread():
    """Tiny tensors of torch: threads only cost."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(autouse=True, scope="session")
def silent():
    """No lines of progress, which a slow machine would put among those that tests compare."""
    progress.EVERY = 1e9
