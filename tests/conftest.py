"""The order of the files."""

LONG = ("test_shipped.py", "test_models.py", "test_docs.py", "test_ulx3s.py", "test_asic.py", "test_import.py")


def pytest_collection_modifyitems(items):
    """Long files first, so that no process is alone with one at the end."""
    items.sort(key=lambda item: item.path.name not in LONG)
