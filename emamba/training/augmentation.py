"""Training data that differ in each epoch, all from one generator."""

import torch
from torch import Tensor

from ..config import ModelConfig, TrainConfig
from ..datasets.tokens import patchify


def augment(batch: Tensor, model: ModelConfig, settings: TrainConfig, empty: Tensor | None, generator: torch.Generator) -> Tensor:
    """What a model reads of standardized inputs: of images [b, height, width, c] where `settings` varies them, else of tokens
    [b, L, input width]. `empty` as in `vary_images`."""
    if settings.varies and model.input == "image":
        batch = patchify(vary_images(batch, settings, empty, generator), model.patch, model.overlap)
    elif settings.varies:
        batch = vary_sequences(batch, settings, generator)
    return jitter(batch, settings.jitter, generator) if settings.jitter else batch


def vary_images(images: Tensor, settings: TrainConfig, empty: Tensor, generator: torch.Generator) -> Tensor:
    """Images [b, height, width, c] as `settings` says: points left out, flipped, shifted with reflection at the borders, a
    square of 0 cut out. `empty` [c]: a pixel that holds no point."""
    b, height, width, _ = images.shape
    if settings.thin:
        images = thin(images.flatten(1, 2), settings.thin, empty, generator).view_as(images)

    def drawn(low: int, high: int) -> Tensor:
        return torch.randint(low, high + 1, (b, 1), generator=generator)

    rows, columns = torch.arange(height).expand(b, -1), torch.arange(width).expand(b, -1)
    if settings.flip:
        columns = torch.where(drawn(0, 1) == 1, width - 1 - columns, columns)
    if settings.shift:
        rows = _reflected(rows + drawn(-settings.shift, settings.shift), height)
        columns = _reflected(columns + drawn(-settings.shift, settings.shift), width)
    images = images[torch.arange(b)[:, None, None], rows[:, :, None], columns[:, None, :]]
    if settings.cutout:
        row, column = drawn(1 - settings.cutout, height - 1), drawn(1 - settings.cutout, width - 1)
        inside = [(start <= torch.arange(size)) & (torch.arange(size) < start + settings.cutout)
                  for start, size in ((row, height), (column, width))]
        images = images.masked_fill((inside[0][:, :, None] & inside[1][:, None, :])[..., None], 0.0)
    return images


def vary_sequences(sequences: Tensor, settings: TrainConfig, generator: torch.Generator) -> Tensor:
    """Sequences [b, L, c] as `settings` says: shifted in time with reflection at the ends, multiplied, tokens and features cut
    out, which leaves 0, their mean."""
    b, length, width = sequences.shape
    if settings.shift:
        steps = torch.randint(-settings.shift, settings.shift + 1, (b, 1), generator=generator)
        sequences = sequences[torch.arange(b)[:, None], _reflected(torch.arange(length) + steps, length)]
    if settings.scale:
        sequences = sequences * (1 + settings.scale * (2 * torch.rand((b, 1, 1), generator=generator) - 1))
    if settings.cutout:
        start = torch.randint(1 - settings.cutout, length, (b, 1), generator=generator)
        inside = (start <= torch.arange(length)) & (torch.arange(length) < start + settings.cutout)
        sequences = sequences.masked_fill(inside[..., None], 0.0)
    if settings.mask:
        sequences = sequences.masked_fill(torch.rand((b, 1, width), generator=generator) < settings.mask, 0.0)
    return sequences


def mix(inputs: Tensor, share: float, generator: torch.Generator) -> tuple[Tensor, Tensor, float]:
    """Inputs of a batch, each with up to this share of another one; which one that is, and its share."""
    others = torch.randperm(len(inputs), generator=generator)
    share *= torch.rand((), generator=generator).item()
    return torch.lerp(inputs, inputs[others], share), others, share


def thin(points: Tensor, share: float, empty: Tensor, generator: torch.Generator) -> Tensor:
    """Lists of points [b, n, c] without this share of each list's points; the others move up, and the end is `empty` [c]."""
    gone = (torch.rand(points.shape[:2], generator=generator) < share) | (points == empty).all(-1)
    gone, order = gone.sort(dim=1, stable=True)
    return torch.where(gone[..., None], empty, points.gather(1, order[..., None].expand_as(points)))


def jitter(inputs: Tensor, deviation: float, generator: torch.Generator) -> Tensor:
    """`inputs` with Gaussian noise of this standard deviation added."""
    return inputs + deviation * torch.randn(inputs.shape, generator=generator)


def recut(inputs: Tensor, targets: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Windows of a text [n, L] that follow each other, and their next tokens, cut anew from a place within the first window."""
    length = inputs.shape[1]
    text = torch.cat([inputs.flatten(), targets[-1, -1:]])
    text = text[torch.randint(length, (), generator=generator):]
    n = (len(text) - 1) // length
    return text[: n * length].view(n, length), text[1 : n * length + 1].view(n, length)


def _reflected(index: Tensor, size: int) -> Tensor:
    """Indices beyond 0..size−1 reflected at its ends, which are not repeated."""
    index = index.abs()
    return size - 1 - (size - 1 - index).abs()
