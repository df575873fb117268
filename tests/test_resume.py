"""The integer model in packets: a sequence cut anywhere gives the same as whole."""

import numpy as np
import pytest

from emamba.base.errors import EmambaError
from emamba.run.integer import IntegerModel
from sim.models import random_artifact, random_inputs


@pytest.mark.parametrize("shape", ["emamba-per-token", "standard-tokens"])
def test_packets_of_a_sequence(shape):
    artifact = random_artifact(shape)
    model = IntegerModel(artifact)
    tokens = artifact.codec.encode(random_inputs(artifact.config, 3), artifact.input)
    whole = model.answer(tokens)
    for cuts in ([1, 4], [2], [1, 2, 3, 4, 5]):
        state, parts = None, []
        for part in np.split(tokens, cuts, axis=1):
            answer, state = model.resume(part, state)
            parts.append(answer)
        assert np.array_equal(np.concatenate(parts, 1), whole)
    assert not np.array_equal(model.resume(tokens[:, :2], state)[0], whole[:, :2])


def test_pool_sees_a_packet():
    """A whole sequence without a state is what `run` gives; with one it is not."""
    artifact = random_artifact("emamba-image")
    model = IntegerModel(artifact)
    tokens = artifact.codec.encode(random_inputs(artifact.config, 2), artifact.input)
    whole = model.answer(tokens)
    first, state = model.resume(tokens)
    assert np.array_equal(first, whole) and not np.array_equal(model.resume(tokens, state)[0], whole)
    with pytest.raises(EmambaError, match="the model reads"):
        model.resume(tokens[0])
