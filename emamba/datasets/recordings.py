"""Sequences that follow each other in time."""

import numpy as np


def window_starts(recordings: np.ndarray, window: int, shift: int = 0) -> np.ndarray:
    """First sequences of windows that follow each other in each recording.

    Parameters
        recordings: the recording of each sequence [n]; those of one follow each other in time
        window: sequences of a window; what is left at a recording's end is in none
        shift: sequences before the first window of a recording, where it is long enough for that
    """
    ends = np.flatnonzero(np.append(recordings[1:] != recordings[:-1], True)) + 1
    found = []
    for start, end in zip(np.append(0, ends[:-1]), ends, strict=True):
        begin = start + (shift if end - start >= shift + window else 0)
        found.append(np.arange(begin, end - window + 1, window))
    return np.concatenate(found)


def whole_recordings(recordings: np.ndarray, count: int, random: np.random.Generator) -> np.ndarray:
    """Indices, in order, of the sequences of recordings drawn at random, as wholes, until there are `count` or more."""
    numbers, place, sizes = np.unique(recordings, return_inverse=True, return_counts=True)
    order = random.permutation(len(numbers))
    drawn = order[:np.searchsorted(np.cumsum(sizes[order]), count) + 1]
    return np.flatnonzero(np.isin(place, drawn))
