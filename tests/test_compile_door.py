"""What is given to `emamba.compile` and to executors: taken as it is meant, or refused by one sentence."""

import re

import numpy as np
import pytest
import torch

import emamba
from emamba import api
from emamba.artifact import load, save
from emamba.base.errors import EmambaError, Fault
from emamba.config import ModelConfig, Recipe, load_toml
from emamba.run.executors import make_executor, predict
from emamba.training.network import Network

CONFIG = ModelConfig(input="sequence", features=2, length=3, d_model=4, dt_rank=1, d_state=2, blocks=1, task="regression",
                     outputs=2)
SETTINGS = "settings are a QuantizeConfig or a table such as {'residual_bits': 8}, not of the type"


@pytest.fixture(scope="module")
def module():
    torch.manual_seed(0)
    return Network(CONFIG)


@pytest.fixture(scope="module")
def data():
    return np.random.default_rng(0).normal(size=(8, 3, 2)).astype(np.float32)


@pytest.fixture(scope="module")
def artifact(module, data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("a") / "a"
    save(emamba.compile(module, data), folder)
    return load(folder)


@pytest.mark.parametrize("given", [
    lambda x: x.tolist(), torch.from_numpy, lambda x: torch.from_numpy(x).requires_grad_(),
    lambda x: torch.from_numpy(x).double(), lambda x: list(torch.from_numpy(x)), tuple])
def test_data_in_any_form(module, data, artifact, given):
    assert emamba.compile(module, given(data)).record["golden"] == artifact.record["golden"]


@pytest.mark.parametrize("kind, largest", [(torch.float64, 1e-6), (torch.bfloat16, 1e-1), (torch.float16, 1e-2)])
def test_a_module_of_another_precision(data, kind, largest):
    torch.manual_seed(0)
    verified = emamba.compile(Network(CONFIG).to(kind), torch.from_numpy(data).to(kind)).record["import"]["verified"]
    assert 0 <= verified["largest_difference"] < largest


@pytest.mark.parametrize("given, options, sentence", [
    (lambda x: [x[0].tolist(), x[0].tolist()[:2]], {},
     "the data, of the type list, is no array (…): give sequences of one length"),
    (lambda x: torch.utils.data.DataLoader(torch.from_numpy(x)), {},
     "the data is of the type DataLoader: give an array or a tensor, …"),
    (lambda x: (row for row in x), {}, "the data is of the type generator: give an array or a tensor, …"),
    (lambda x: None, {}, "the data is an array of object; the model reads numbers"),
    (lambda x: x.astype(str), {}, "the data is an array of <U32; the model reads numbers"),
    (lambda x: x * 1j, {}, "the data is an array of complex64; the model reads numbers"),
    (lambda x: torch.empty(2, 3, 2, device="meta"), {}, "…"),
    (lambda x: x[..., :1], {}, "…"), (lambda x: x[0], {}, "…"), (lambda x: x[0, 0, 0], {}, "…"),
    (lambda x: x, {"settings": "8"}, f"{SETTINGS} str"),
    (lambda x: x, {"settings": [8]}, f"{SETTINGS} list"),
    (lambda x: x, {"settings": {8: 8}}, "settings: …"),
    (lambda x: x, {"name": 5}, "name is a text, not of the type int"),
])
def test_what_is_refused(module, data, given, options, sentence):
    with pytest.raises(EmambaError, match=f"^{re.escape(sentence).replace('…', '.*')}$") as refused:
        emamba.compile(module, given(data), **options)
    assert not isinstance(refused.value, Fault), refused.value


def test_a_fault_has_its_cause(module, data, monkeypatch):
    monkeypatch.setattr(api, "calibrated", lambda *_: {}["lost"])
    with pytest.raises(Fault, match=r"^KeyError: 'lost': this is a fault of eMamba and not of what you gave it; report it with "
                                    r"the traceback of its cause$") as fault:
        emamba.compile(module, data)
    assert isinstance(fault.value, EmambaError) and isinstance(fault.value.__cause__, KeyError)


@pytest.mark.parametrize("backend", ["int", "float"])
@pytest.mark.parametrize("shape", [(4, 3, 1), (4, 3, 3), (4, 3), (3, 2), (2,), ()])
def test_executors_refuse_another_width(artifact, data, backend, shape):
    executor = make_executor(artifact, backend)
    with pytest.raises(EmambaError, match=r"^the input has the shape \[.*\]; the model reads \[sequences, tokens, 2\]$"):
        predict(artifact, backend, executor, np.zeros(shape))
    given = (data, torch.from_numpy(data))
    assert np.array_equal(*(predict(artifact, backend, executor, x) for x in given))


@pytest.mark.parametrize("content", ["a = " + "[" * 100_000, "x" * (1 << 20) + "x"])
def test_deep_and_large_tables(tmp_path, content):
    path = tmp_path / "x.toml"
    path.write_text(content)
    with pytest.raises(EmambaError, match=r"x\.toml is not valid TOML: [^\n]+$|x\.toml has \d+ bytes; at most \d+ are read$"):
        load_toml(Recipe, path)
