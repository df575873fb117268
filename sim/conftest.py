"""Every bench runs on every simulator, or on the one that the environment variable SIM names; none is skipped."""

from pathlib import Path

import pytest

from emamba.base.errors import SettingError, ToolMissing
from emamba.io import cache

from . import tools


def pytest_collection_modifyitems(items):
    """Slow ones first, so that no process is alone with one at the end."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)


def pytest_configure(config):
    try:
        for simulator in tools.chosen():
            tools.environment(simulator)
    except (SettingError, ToolMissing) as error:
        raise pytest.UsageError(str(error)) from None


@pytest.fixture
def simulators() -> tuple[str, ...]:
    return tools.chosen()


@pytest.fixture
def build_dir() -> Path:
    return cache.plain_folder(Path(__file__).parents[1] / "build" / "sim")
