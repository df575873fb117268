"""Intervals and votes of the evaluation on activities."""

import numpy as np

from benchmarks.activities import confusion, exact_low, interval, votes


def test_exact_low():
    """Of n right out of n it is (2.5 %)^(1/n); of none it is 0."""
    assert abs(exact_low(55, 55) - 0.025 ** (1 / 55)) < 1e-9 and exact_low(0, 9) < 1e-12
    assert abs(exact_low(8, 10) - 0.4439) < 1e-4


def test_interval_is_of_recordings():
    """A hundred windows of each of four recordings are four draws, not four hundred."""
    recording = np.repeat([3, 5, 8, 9], 100)
    low, high = interval(recording != 5, recording)
    assert (low, high) == (0.25, 1.0)
    assert interval(np.ones(400, bool), recording) == (1.0, 1.0)


def test_votes():
    recording = np.repeat([0, 1], 45)
    found = np.where(np.arange(90) % 45 < 6, 1, recording)
    assert votes(found, recording, np.array([0, 1]), 60, 10) == {"60": 1, "100": 1, "200": 2, "300": 2, "500": 2, "all": 2}


def test_confusion():
    assert confusion(np.array([0, 0, 4]), np.array([0, 1, 4]))[0] == [1, 1, 0, 0, 0]
