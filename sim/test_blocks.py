"""Benches of every block, some of a kind in one simulation."""

import pytest

from .bench import bench, run_together
from .cases import BLOCKS, tokens_of

pytestmark = pytest.mark.slow

TOGETHER = 30


def groups(names, size: int = TOGETHER) -> dict[str, list[str]]:
    """Names of the same kind, a few at a time."""
    kinds: dict[str, list[str]] = {}
    for name in names:
        kinds.setdefault(name.partition("-")[0], []).append(name)
    return {f"{kind}-{k}" if k else kind: found[k:k + size] for kind, found in kinds.items() for k in range(0, len(found), size)}


def benches(names):
    blocks = {name: BLOCKS[name]() for name in names}
    return {name: bench(block, *tokens_of(block)) for name, block in blocks.items()}


GROUPS = groups(BLOCKS)


@pytest.mark.parametrize("group", GROUPS)
def test_blocks(group, simulators, build_dir):
    run_together(group, benches(GROUPS[group]), simulators, build_dir)
