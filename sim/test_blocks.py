# amaranth: UnusedElaboratable=no
"""Benches of every block."""

import pytest

from .bench import bench, random_tokens
from .cases import BLOCKS, TOKENS


@pytest.mark.parametrize("name", BLOCKS)
def test_block(name, simulator, build_dir):
    block = BLOCKS[name]()
    tokens = [random_tokens(port, 3, TOKENS, seed=k) for k, port in enumerate(block.inputs.values())]
    bench(block, *tokens).run(name, simulator, build_dir)
