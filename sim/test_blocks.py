# amaranth: UnusedElaboratable=no
"""Benches of every block."""

import pytest

from .bench import bench
from .cases import BLOCKS, tokens_of


@pytest.mark.parametrize("name", BLOCKS)
def test_block(name, simulator, build_dir):
    block = BLOCKS[name]()
    bench(block, *tokens_of(block)).run(name, simulator, build_dir)
