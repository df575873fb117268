"""Layouts of the user's own: a file that names a foreign model's tensors, and what is refused."""

import re

import numpy as np
import pytest
from foreign import LanguageModel, Settings, randomize

from emamba.api import read_model_files
from emamba.artifact import load
from emamba.base.errors import EmambaError
from emamba.graph import own
from emamba.importers import own as layouts
from emamba.importers.translate import translate
from flow import cli

LENGTH = 9
FILE = '''
from emamba.importers import layout

OURS = {"A_log": "A_log", "D": "D", "dt/bias": "dt.bias", "norm": "norm.weight", "conv/kernel": "conv.weight",
        "conv/bias": "conv.bias"} | {f"{name}/kernel": f"{name}.weight" for name in ("x", "z", "dt_low", "B", "C", "dt", "out")}


@layout("keras")
def keras(tensors, length):
    vocabulary, d_model = tensors["table"].shape
    weights = {"embed.weight": tensors["table"], "head.weight": tensors["head/kernel"].T, "head.bias": np.zeros(vocabulary),
               "norm.weight": tensors["norm"]}
    for k in range(2):
        for theirs, ours in OURS.items():
            value = tensors[f"layer_{k}/{theirs}"]
            weights[f"blocks.{k}.{ours}"] = value.T if value.ndim == 2 and ours != "A_log" else value
    return {"form": "standard", "input": "tokens", "vocabulary": vocabulary, "d_model": d_model, "expand": 2, "d_state": 5,
            "dt_rank": 2, "blocks": 2, "norm": "rms", "pool": "none", "task": "next_token", "outputs": vocabulary}, weights
'''


@pytest.fixture
def known(monkeypatch, tmp_path):
    """The file, which registers its layout for the time of a test."""
    monkeypatch.setattr(layouts, "LAYOUTS", {})
    monkeypatch.setattr(own, "_imported", set())
    monkeypatch.delenv(own.VARIABLE, raising=False)
    path = tmp_path / f"keras_{tmp_path.name}.py"
    path.write_text("import numpy as np\n" + FILE)
    return path


def arrays() -> tuple[dict, object]:
    """A model in names that no package has, its matrices transposed, and the same model as mamba_ssm's."""
    expected = translate(dict(randomize(LanguageModel(Settings())).state_dict()), None, LENGTH, "here")
    theirs = {"table": expected.weights["embed.weight"], "norm": expected.weights["norm.weight"],
              "head/kernel": expected.weights["head.weight"].T}
    for name, value in expected.weights.items():
        if found := re.fullmatch(r"blocks\.(\d)\.(.*)", name):
            inner = found[2].replace(".weight", "/kernel").replace(".bias", "/bias").replace("norm/kernel", "norm")
            theirs[f"layer_{found[1]}/{inner}"] = value.T if value.ndim == 2 and inner != "A_log" else value
    return theirs, expected


def test_a_layout_of_ones_own(known, tmp_path, capsys):
    theirs, expected = arrays()
    np.savez(tmp_path / "m.npz", **theirs)
    np.save(tmp_path / "ids.npy", np.random.default_rng(1).integers(0, 24, (20, LENGTH)))
    words = ["--model", known, "import", tmp_path / "m.npz", "--layout", "keras", "--calibration", tmp_path / "ids.npy", "--out",
             tmp_path / "a"]
    assert cli.main([str(word) for word in words]) == 0
    artifact = load(tmp_path / "a")
    assert artifact.config == expected.config
    assert all(np.array_equal(value, artifact.weights[name]) for name, value in expected.weights.items())
    assert artifact.record["import"]["notes"] == [f"layout 'keras': {len(theirs)} tensors, all taken over"]
    assert capsys.readouterr().out.startswith("layout 'keras'")


@pytest.mark.parametrize("change, sentence", [
    (lambda t: t.pop("layer_1/D"), "{} has no tensor 'layer_1/D', which the layout 'keras' reads"),
    (lambda t: t.update(gain=np.ones(3)), "{} has a tensor 'gain' that the layout 'keras' does not read: what it adds to the "
                                          "computation would be lost"),
    (lambda t: t.update({"layer_1/D": np.ones(33)}), "{}: tensor 'blocks.1.D' has the shape [33], the model needs [34]"),
    (lambda t: t.update({"layer_1/D": np.ones(34, int)}),
     "{}: tensor 'blocks.1.D' is of the type int64; only float64, float32, float16 and bfloat16 can be imported: save the "
     "weights before they were quantized"),
    (lambda t: t.update({"layer_1/D": np.array([{}], object)}), "{} holds no plain arrays (…): write it again with numpy.savez"),
])
def test_models_that_are_refused(known, tmp_path, change, sentence):
    own.import_models(known)
    theirs, _ = arrays()
    change(theirs)
    path = tmp_path / "m.npz"
    np.savez(path, **theirs)
    with pytest.raises(EmambaError, match=re.escape(sentence.format(path)).replace("…", ".*")):
        read_model_files(path, LENGTH, "keras")


def test_layouts_that_are_not_there(known, tmp_path):
    np.savez(tmp_path / "m.npz", a=np.ones(2))
    with pytest.raises(EmambaError, match=r"^there is no layout 'flax': name the Python file that registers it by --model$"):
        read_model_files(tmp_path / "m.npz", LENGTH, "flax")
    own.import_models(known)
    with pytest.raises(EmambaError, match=r"^there is no layout 'flax'; there are keras: name the Python file that "):
        read_model_files(tmp_path / "m.npz", LENGTH, "flax")
