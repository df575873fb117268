"""Images, sequences and texts that vary from epoch to epoch."""

import pytest
import torch

from emamba.config import TrainConfig
from emamba.training.augmentation import jitter, mix, recut, thin, vary_images, vary_sequences

IMAGES = torch.arange(2.0 * 6 * 7 * 3).reshape(2, 6, 7, 3).repeat(40, 1, 1, 1) + 1


def varied(images=IMAGES, seed=0, **settings):
    return vary_images(images, TrainConfig(**settings), torch.zeros(3), torch.Generator().manual_seed(seed))


def reflect(index, size):
    index = abs(index)
    return index if index < size else 2 * (size - 1) - index


def test_flip():
    flipped = [torch.equal(image, original.flip(1)) for image, original in zip(varied(flip=True), IMAGES, strict=True)]
    kept = [torch.equal(image, original) for image, original in zip(varied(flip=True), IMAGES, strict=True)]
    assert all(a != b for a, b in zip(flipped, kept, strict=True)) and 20 < sum(flipped) < 60


def test_shift():
    shifts = [(dy, dx) for dy in range(-2, 3) for dx in range(-2, 3)]

    def shifted(image, dy, dx):
        return image[[reflect(i + dy, 6) for i in range(6)]][:, [reflect(i + dx, 7) for i in range(7)]]

    seen = [[shift for shift in shifts if torch.equal(image, shifted(original, *shift))]
            for image, original in zip(varied(shift=2), IMAGES, strict=True)]
    assert all(len(found) == 1 for found in seen)
    assert {found[0][0] for found in seen} == {found[0][1] for found in seen} == set(range(-2, 3))


def test_cutout():
    holes = varied(cutout=3) == 0
    assert torch.equal(torch.where(holes, IMAGES, varied(cutout=3)), IMAGES)
    for hole in holes:
        assert torch.equal(hole, hole[..., :1].expand(-1, -1, 3))
        rows, columns = hole[..., 0].any(1), hole[..., 0].any(0)
        assert torch.equal(hole[..., 0], rows[:, None] & columns[None, :])
        assert 1 <= rows.sum() <= 3 and 1 <= columns.sum() <= 3
    assert {int(hole[..., 0].sum()) for hole in holes} >= {9, 3}


SEQUENCES = (torch.arange(9.0 * 5).reshape(1, 9, 5) + 1).repeat(60, 1, 1)


def varied_sequences(**settings):
    return vary_sequences(SEQUENCES, TrainConfig(**settings), torch.Generator().manual_seed(0))


def test_sequences_are_shifted_in_time():
    shifts = {steps: SEQUENCES[0, [reflect(k + steps, 9) for k in range(9)]] for steps in range(-3, 4)}
    seen = [[steps for steps, wanted in shifts.items() if torch.equal(found, wanted)] for found in varied_sequences(shift=3)]
    assert all(len(found) == 1 for found in seen) and {found[0] for found in seen} == set(shifts)


def test_sequences_are_multiplied():
    factors = varied_sequences(scale=0.2) / SEQUENCES
    assert torch.allclose(factors, factors[:, :1, :1].expand_as(factors))
    assert 0.8 <= factors.min() < 0.85 and 1.15 < factors.max() <= 1.2


def test_tokens_and_features_are_cut_out():
    tokens = varied_sequences(cutout=4) == 0
    assert torch.equal(tokens, tokens[..., :1].expand_as(tokens))
    assert set(tokens[..., 0].sum(1).tolist()) == {1, 2, 3, 4}
    assert all(set(row[row.nonzero().min():row.nonzero().max() + 1].tolist()) == {True} for row in tokens[..., 0])
    features = varied_sequences(mask=0.3) == 0
    assert torch.equal(features, features[:, :1].expand_as(features)) and 0.2 < features.float().mean() < 0.4


def test_mix():
    inputs = torch.randn(20, 3, 2)
    mixed, others, share = mix(inputs, 0.4, torch.Generator().manual_seed(1))
    assert 0 < share < 0.4 and sorted(others.tolist()) == list(range(20))
    assert torch.allclose(mixed, (1 - share) * inputs + share * inputs[others])


def test_thin():
    points = torch.arange(1.0, 50 * 20 * 3 + 1).view(50, 20, 3)
    points[:, 15:] = torch.tensor([0.0, -1.0, 2.0])
    result = thin(points, 0.3, points[0, -1], torch.Generator().manual_seed(3))
    kept = []
    for before, after in zip(points, result, strict=True):
        n = int((after != points[0, -1]).any(-1).sum())
        assert torch.equal(after[n:], points[0, -1].expand(20 - n, 3))
        places = [int((before == point).all(-1).nonzero()) for point in after[:n]]
        assert places == sorted(set(places)) and (not places or places[-1] < 15)
        kept.append(n)
    assert 0.65 < sum(kept) / (50 * 15) < 0.75
    assert torch.equal(varied(thin=0.3), varied(thin=0.3)) and not torch.equal(varied(thin=0.3), IMAGES)


def test_same_seed_same_images():
    settings = {"shift": 2, "flip": True, "cutout": 2}
    assert torch.equal(varied(**settings), varied(**settings))
    assert not torch.equal(varied(**settings), varied(seed=1, **settings))


@pytest.mark.parametrize("seed", range(5))
def test_recut(seed):
    text = torch.arange(4 * 5 + 1)
    x, y = recut(text[:-1].view(4, 5), text[1:].view(4, 5), torch.Generator().manual_seed(seed))
    offset = int(x[0, 0])
    assert 0 <= offset < 5 and x.shape == y.shape == ((4, 5) if offset == 0 else (3, 5))
    assert torch.equal(x.flatten(), torch.arange(offset, offset + x.numel())) and torch.equal(y, x + 1)


def test_jitter():
    inputs = torch.randn(100, 4, 50, generator=torch.Generator().manual_seed(1))
    noise = jitter(inputs, 0.25, torch.Generator().manual_seed(2)) - inputs
    assert 0.24 < noise.std() < 0.26 and noise.mean().abs() < 0.01
    assert torch.equal(jitter(inputs, 0.25, torch.Generator().manual_seed(2)) - inputs, noise)
