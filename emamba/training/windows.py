"""The order in which an epoch trains on sequences: alone, or in windows of a recording."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..datasets.recordings import window_starts


@dataclass(frozen=True)
class Order:
    """Batches of sequences that follow each other in time.

    count: sequences
    recordings: the recording of each of them [count]; needed where `window` is above 1
    window: sequences of a recording that are trained as one
    join: windows of any recordings that are trained as one
    batch: windows, or joined windows, at a time
    seed: of the sequences at which an epoch's windows begin
    """

    count: int
    recordings: np.ndarray | None
    window: int
    join: int
    batch: int
    seed: int

    def starts(self, epoch: int) -> Tensor:
        """First sequences of the windows of an epoch."""
        if self.window == 1:
            return torch.arange(self.count)
        shift = int(np.random.default_rng((self.seed, epoch)).integers(self.window))
        found = window_starts(self.recordings, self.window, shift)
        return torch.from_numpy(found if len(found) >= self.join else window_starts(self.recordings, self.window))

    def steps(self, first: int, epochs: int) -> int:
        """Batches of all epochs from the one of number `first` on."""
        return sum(-(-(len(self.starts(epoch)) // self.join) // self.batch) for epoch in range(first, first + epochs))

    def batches(self, epoch: int, generator: torch.Generator, count: int | None = None) -> Iterator[Tensor]:
        """Indices of sequences, shuffled, those of a window one after another; of the first `count` sequences where given."""
        order = self.starts(epoch)
        order = order[order + self.window <= (self.count if count is None else count)]
        order = order[torch.randperm(len(order), generator=generator)]
        order = order[:len(order) // self.join * self.join].view(-1, self.join)
        for starts in order.split(self.batch):
            yield (starts[..., None] + torch.arange(self.window)).flatten()
