"""The order of the files, and what several of them use."""

import pytest

LONG = ("test_shipped.py", "test_targets.py", "test_models.py", "test_docs.py", "test_ulx3s.py", "test_asic.py", "test_import.py")


def pytest_collection_modifyitems(items):
    """Long files first, so that no process is alone with one at the end."""
    items.sort(key=lambda item: item.path.name not in LONG)


@pytest.fixture(scope="module")
def one_thread():
    """Tiny tensors of torch: threads only cost."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
