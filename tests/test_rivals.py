"""What generated recipes are compared with, and the page's table."""

import json
from functools import partial
from pathlib import Path

import pytest
import torch

from benchmarks import rivals
from emamba.config import ModelConfig
from emamba.training.network import Network

CONFIG = ModelConfig(input="sequence", features=6, length=32, d_model=16, dt_rank=4, blocks=2, task="classification", outputs=5)


@pytest.mark.parametrize("rival", [rivals.Cnn, rivals.Gru])
def test_a_rival_has_as_many_parameters(rival, monkeypatch):
    monkeypatch.setattr(rivals, "WIDTHS", range(12, 32))
    model = partial(rivals.like, rival)(CONFIG)
    assert abs(rivals.size(model) / rivals.size(Network(CONFIG)) - 1) < 0.05
    model.dropout = 0.5
    first, second = (model.eval()(torch.ones(3, 32, 6)) for _ in range(2))
    assert first.shape == (3, 5) and torch.equal(first, second)
    assert all(value.grad is not None for value in _trained(model))


def _trained(model: Network) -> list[torch.Tensor]:
    model.train()(torch.randn(3, 32, 6)).sum().backward()
    return list(model.parameters())


def test_the_table_is_of_the_figures():
    found = json.loads(Path("docs/data.json").read_text(encoding="utf-8"))
    assert "\n".join(rivals.table(found)) in Path("docs/data.md").read_text(encoding="utf-8")
