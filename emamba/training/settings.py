"""How an artifact is trained on."""

from pydantic import Field

from ..config import Config


class FinetuneConfig(Config):
    """Quantization-aware training from an artifact."""

    window: int | None = Field(None, ge=1, le=1 << 16, description="of an artifact whose state is carried: sequences of a "
                               "recording, one after another, that are trained as one (default: 64)")
    epochs: int = Field(10, ge=1)
    batch: int = Field(128, ge=1, description="sequences at a time")
    peak_lr: float = Field(3e-4, gt=0)
    seed: int = 0
    segments: bool = Field(False, description="train the slopes and offsets of the piecewise-linear units too")
