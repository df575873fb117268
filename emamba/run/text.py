"""Text from a language model: tokens one by one, each drawn by the logits that follow those before it."""

from collections.abc import Callable, Iterator

import numpy as np

Array = np.ndarray


def continued(follow: Callable[[Array], Array], start: Array, temperature: float, seed: int) -> Iterator[int]:
    """Token ids after those of `start`, without end.

    Parameters
        follow: gives the logits after tokens that go on where those of its last call ended
        start: token ids
        temperature: by which logits are divided before one is drawn; at 0 the largest is taken
        seed: of the draws
    """
    generator, ids = np.random.default_rng(seed), start
    while True:
        logits = follow(ids)
        token = int(np.argmax(logits + temperature * generator.gumbel(size=logits.shape)))
        yield token
        ids = np.array([token])
