"""Text by a language model, and the demo in which the hardware writes it."""

from dataclasses import replace
from functools import partial
from itertools import islice
from types import SimpleNamespace

import numpy as np
import pytest

import demo_text
from boards.describe import golden_frames
from emamba import artifact as artifacts
from emamba.artifact import of_length
from emamba.base.errors import DesignLimit, InputError, Mismatch, SettingError
from emamba.config import ModelConfig
from emamba.datasets import shakespeare
from emamba.run.integer import IntegerModel, record_golden
from emamba.run.text import continued
from sim.models import random_artifact
from sim.native_system import NativeTransport
from sim.small import other

SHAPE = {"form": "standard", "input": "tokens", "vocabulary": 65, "length": 9, "d_model": 4, "d_state": 2, "dt_rank": 1,
         "blocks": 1, "pool": "none", "task": "next_token", "outputs": 65}


@pytest.fixture(scope="module")
def artifact():
    return random_artifact(ModelConfig(**SHAPE))


def test_of_length(artifact):
    """A token a sequence with the state carried, as one long sequence; its golden sequences are truncated."""
    ids = np.random.default_rng(0).integers(0, 65, (1, 9, 1))
    record_golden(artifact, ids)
    stepped = of_length(artifact, 1, carried=True)
    assert np.array_equal(IntegerModel(stepped).answer(ids.reshape(9, 1, 1))[:, 0], IntegerModel(artifact).answer(ids)[0])
    assert np.array_equal(IntegerModel(of_length(artifact, 5)).answer(ids[:, :5]), IntegerModel(artifact).answer(ids)[:, :5])
    assert golden_frames(stepped).tolist() == ids[:, :1].tolist() and "answers" in artifact.record
    with pytest.raises(DesignLimit, match="random answers whole sequences of 4 tokens, so it has no other length"):
        of_length(random_artifact("emamba-image"), 1)


def test_continued():
    def follow(ids):
        read.append(ids.tolist())
        return np.eye(4)[(ids[-1] + 1) % 4] * 3

    read = []
    assert list(islice(continued(follow, np.array([1, 2]), 0, 0), 5)) == [3, 0, 1, 2, 3]
    assert read == [[1, 2], [3], [0], [1], [2]]
    drawn = np.array(list(islice(continued(lambda _: np.log([0.5, 0.25, 0.25]), np.array([0]), 1, 1), 3000)))
    np.testing.assert_allclose(np.bincount(drawn) / 3000, [0.5, 0.25, 0.25], atol=0.03)


def test_demo(artifact, tmp_path, monkeypatch, capsys):
    """The text is the integer model's."""
    monkeypatch.setattr(demo_text, "NativeTransport", partial(NativeTransport, fast=False))
    artifacts.save(artifact, tmp_path / "a")
    words = ["--artifact", str(tmp_path / "a"), "--prompt", "To be", "--characters", "12", "--lanes", "4"]
    demo_text.main(words)
    out = capsys.readouterr().out
    model, state = IntegerModel(of_length(artifact, 1, carried=True)), None

    def follow(ids):
        nonlocal state
        found, state = model.resume(ids[None, :, None], state)
        return found[0, -1] * artifact.output.step

    text = shakespeare.decode(list(islice(continued(follow, shakespeare.encode(b"To be"), demo_text.TEMPERATURE, 0), 12)))
    assert f"\nTo be{text}\n" in out and "16 characters read, 1,040 logits equal" in out


@pytest.mark.parametrize("wrong", [other, lambda found: replace(found, graph=replace(found.graph, carried=False))])
def test_differences_are_refused(artifact, wrong):
    """Of hardware with other weights than the model, and of hardware that forgets its state."""
    artifact = of_length(artifact, 1, carried=True)
    broken = IntegerModel(wrong(artifact))
    writers = demo_text.Writers(SimpleNamespace(run=lambda ids: broken.answer(ids)), IntegerModel(artifact))
    with pytest.raises(Mismatch, match=r"hardware and integer model differ in \d+ of 195 logits up to character 3"):
        writers.follow(np.array([1, 2, 3]))


def test_refusals(artifact, tmp_path):
    artifacts.save(artifact, tmp_path / "a")
    artifacts.save(random_artifact("standard-tokens"), tmp_path / "five")
    with pytest.raises(InputError, match="reads 5 token ids, not the 65 characters of Shakespeare"):
        demo_text.main(["--artifact", str(tmp_path / "five")])
    for prompt, sentence in (("", "--prompt is empty"), ("Zürich", "--prompt has the byte 0xc3 at 1")):
        with pytest.raises(InputError, match=sentence):
            demo_text.main(["--artifact", str(tmp_path / "a"), "--prompt", prompt])
    with pytest.raises(SettingError, match="--characters must be at least 1"):
        demo_text.main(["--characters", "0"])
