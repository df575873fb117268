"""Configurations: the shape of a model, how it is trained, how it is quantized. Read from TOML, validated by pydantic."""

import tomllib
from pathlib import Path
from typing import Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from .base.errors import DesignLimit, InputError, SettingError, brief
from .base.formats import IntFormat, Rounding
from .io.files import read_text

NORM_EPSILON = 1e-5
"""Under the square root of LayerNorm and RMSNorm, where nothing else is said. RangeNorm has none (paper)."""


HEADLESS = ("emamba", "standard", "vit", "mobilenet")
"""Forms of this package whose scan, if they have one, has no heads."""


class Config(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class StemLayer(Config):
    """A convolution before the embedding: square for images, along a sequence else."""

    channels: int = Field(ge=1, le=1 << 14)
    kernel: int = Field(ge=1, le=64)
    stride: int = Field(1, ge=1, le=64)
    function: Literal["relu", "silu"] = "relu"


class ModelConfig(Config):
    """Sizes of a model.

    `form` names the function that builds its blocks: `emamba` (SiLU on the gate only, ReLU on δ, x and z projections with bias;
    paper Eq. 4 and the authors' hardware), `standard` (Mamba-1: SiLU after the convolution, softplus on δ, projections without
    bias unless `bias` is true), `mamba2` (one decay a head, B and C by groups, a gated norm), `vit` (attention in every block),
    `mobilenet` (convolutions alone), or one that a file of your own registers (`emamba.graph.model`).
    """

    form: str = Field("emamba", pattern=r"^[A-Za-z]\w{0,39}$")
    input: Literal["image", "sequence", "tokens"]
    image: tuple[int, int, int] | None = Field(None, description="height, width, channels of an image input")
    patch: tuple[int, int] | None = Field(None, description="height, width of a patch; each patch is one token")
    overlap: int = Field(0, ge=0, le=1 << 10, description="pixels by which a patch reaches into its neighbours on every side; "
                         "beyond the image its border is repeated")
    features: int | None = Field(None, ge=1, le=1 << 16, description="values per token of a sequence input")
    vocabulary: int | None = Field(None, ge=2, le=1 << 20, description="number of token ids of a tokens input")
    length: int | None = Field(None, ge=1, le=1 << 20, description="tokens per sequence; derived for images")
    d_model: int = Field(ge=1, le=1 << 14)
    expand: int = Field(2, ge=1, le=64)
    inner: int | None = Field(None, ge=1, le=1 << 20, description="channels inside a block (default: expand · d_model)")
    d_state: int = Field(8, ge=1, le=1024)
    dt_rank: int = Field(ge=1, le=1 << 14, description="rank of δ (default: ceil(d_model / 16), as in Mamba)")
    d_conv: int = Field(4, ge=1, le=64)
    conv: Literal["causal", "same", "grid", "pointwise"] = Field(
        "causal", description="before the scan: a depthwise convolution of d_conv taps up to the token, or around it, or of "
        "d_conv × d_conv around it on the grid of an image's patches; or a product with a matrix of all channels of the token "
        "alone (the authors' hardware)")
    blocks: int = Field(ge=1, le=256)
    attention: int | None = Field(None, ge=1, le=256, description="every so many blocks, one has attention in place of its scan")
    attention_heads: int = Field(1, ge=1, le=1 << 14, description="heads of attention; they share d_model channels")
    attention_causal: bool = Field(False, description="attention sees no later token")
    mlp: int | None = Field(None, ge=1, le=1 << 16, description="hidden channels of an MLP after each mixer (default: no MLP)")
    mlp_bias: bool = Field(True, description="biases of the MLP")
    mlp_gated: bool = Field(False, description="the MLP multiplies its hidden channels by a gate, SiLU(linear)")
    norm: Literal["range", "layer", "rms", "none"] = "range"
    norm_epsilon: float = Field(NORM_EPSILON, gt=0, le=1, description="under the square root of norm = 'layer' and 'rms'")
    bias: bool | None = Field(None, description="biases of x, z and out (default: form = 'emamba' has them)")
    initial_state: bool = Field(False, description="a learned state before the first token of each sequence")
    tied: bool = Field(False, description="the head's weight is that of the embedding, for input = 'tokens'")
    inner_bias: bool = Field(False, description="biases of dt_low, B and C")
    delta: Literal["relu", "softplus"] = Field("softplus", description="function of δ (default: relu for form = 'emamba')")
    delta_offset: float | None = Field(None, gt=0, le=1e6, description="added to δ")
    delta_limits: tuple[float, float] | None = Field(None, description="lower and upper limit of δ")
    head_dim: int | None = Field(None, ge=1, le=1 << 14, description="channels a head of form = 'mamba2'")
    groups: int = Field(1, ge=1, le=1 << 11, description="parts of the heads with a B and a C of their own, form = 'mamba2'")
    wide_D: bool = Field(False, description="a D for each channel, not for each head, form = 'mamba2'")
    gated_norm: Literal["after", "before", "none"] = Field(
        "after", description="the norm inside a block of form = 'mamba2': after the gate, before it, or none")
    norm_groups: int = Field(1, ge=1, le=1 << 11, description="parts of the channels that the gated norm norms apart")
    stem: list[StemLayer] = Field([], max_length=16, description="convolutions before the embedding, the first one first")
    merge: list[int] = Field([], description="blocks before which 2×2 tokens of an image, or 2 of a sequence, become one")
    direction: Literal["forward", "backward", "alternating", "both"] = Field(
        "forward", description="in which the blocks read a sequence; alternating: every second one backwards; both: each has a "
        "mixer of either direction on the same norm, whose outputs are added")
    shared_directions: bool = Field(False, description="both mixers of direction = 'both' have the same weights")
    residual: bool = True
    pool: Literal["mean", "gated", "last", "none"] = Field(
        "mean", description="gated: the mean of the tokens times sigmoid(linear); none: an output for each token")
    carried: bool = Field(False, description="the state goes on from each sequence to the next: sequences follow each other in "
                          "time, as the frames of a sensor do")
    smooth: int | None = Field(None, ge=1, le=16, description="filter of the outputs over time, y ← y + (x − y)/2^smooth, for "
                               "task = 'regression'")
    task: Literal["classification", "regression", "next_token"]
    outputs: int = Field(ge=1, le=1 << 20, description="classes, regressed values, or vocabulary size")
    options: dict[str, bool | int | float | str] = Field({}, description="what only a form of your own knows")

    @model_validator(mode="before")
    @classmethod
    def _derive(cls, data):
        if not isinstance(data, dict):
            return data
        derived = {}
        if data.get("dt_rank") is None and type(data.get("d_model")) is int:
            derived["dt_rank"] = max(1, -(-data["d_model"] // 16))
        if data.get("delta") is None and data.get("form", "emamba") == "emamba":
            derived["delta"] = "relu"
        return data | derived

    @model_validator(mode="after")
    def _check(self):
        needed = {"image": ("image", "patch"), "sequence": ("features", "length"), "tokens": ("vocabulary", "length")}
        for kind, keys in needed.items():
            for key in keys:
                given = getattr(self, key) is not None
                if kind == self.input and not given:
                    raise ValueError(f"input = '{self.input}' needs the key '{key}'")
                if kind != self.input and given and key not in needed[self.input]:
                    raise ValueError(f"the key '{key}' does not belong to input = '{self.input}'")
        if self.image and self.patch:
            (height, width, channels), (ph, pw) = self.image, self.patch
            if min(height, width, channels, ph, pw) < 1 or max(height, width, channels) > 1 << 14:
                raise ValueError("image and patch sizes must lie in 1..16384")
            if height % ph or width % pw:
                raise ValueError(f"an image of {height}×{width} does not divide into patches of {ph}×{pw}")
        if self.overlap and self.input != "image":
            raise ValueError(f"the key 'overlap' does not belong to input = '{self.input}'")
        if self.norm_epsilon != NORM_EPSILON and self.norm not in ("layer", "rms"):
            raise ValueError(f"the key 'norm_epsilon' does not belong to norm = '{self.norm}'")
        self._check_blocks()
        if self.stem and self.input == "tokens":
            raise ValueError("the key 'stem' does not belong to input = 'tokens'")
        if self.conv == "grid" and self.input != "image":
            raise ValueError(f"conv = 'grid' does not belong to input = '{self.input}'")
        if self.merge != sorted(set(self.merge) & set(range(1, self.blocks))):
            raise ValueError(f"merge must name blocks of 1..{self.blocks - 1}, each once, the first one first")
        if self.task == "next_token" and (self.merge or any(layer.stride > 1 for layer in self.stem)):
            raise ValueError("task = 'next_token' predicts at every token, so merge and strides in the stem are not possible")
        if self.shared_directions and self.direction != "both":
            raise ValueError("shared_directions needs direction = 'both'")
        if self.task == "next_token" and self.pool != "none":
            raise ValueError("task = 'next_token' predicts at every token and needs pool = 'none'")
        return self

    def _check_blocks(self) -> None:
        for key in ("head_dim", "groups", "wide_D", "gated_norm", "norm_groups"):
            if self.form in HEADLESS and getattr(self, key) != type(self).model_fields[key].default:
                raise ValueError(f"the key '{key}' does not belong to form = '{self.form}'")
        if self.form == "mamba2":
            if self.head_dim is None:
                raise ValueError("form = 'mamba2' needs the key 'head_dim'")
            if self.d_inner % self.head_dim or self.heads % self.groups:
                raise ValueError(f"{self.d_inner} inner channels do not divide into heads of {self.head_dim} in {self.groups} "
                                 "groups")
            if self.d_inner % self.norm_groups:
                raise ValueError(f"{self.d_inner} inner channels do not divide into norm_groups = {self.norm_groups} parts")
        self._check_attention()
        if self.mlp_gated and self.mlp is None:
            raise ValueError("mlp_gated needs the key 'mlp'")
        if self.tied and (self.input != "tokens" or self.outputs != self.vocabulary):
            raise ValueError("tied needs input = 'tokens' and as many outputs as the vocabulary has")
        if self.smooth is not None and self.task != "regression":
            raise ValueError(f"the key 'smooth' does not belong to task = '{self.task}'")
        if self.delta == "relu" and (self.delta_offset is not None or self.delta_limits is not None):
            raise ValueError("delta_offset and delta_limits need delta = 'softplus'")
        if self.delta_limits is not None and not 0 <= self.delta_limits[0] < self.delta_limits[1] <= 1e30:
            raise ValueError("delta_limits must be two numbers of 0..1e30, the lower one first")

    def _check_attention(self) -> None:
        attends = self.form == "vit" or self.attention is not None
        if self.form == "vit" and self.attention is not None:
            raise ValueError("form = 'vit' has attention in every block: leave out the key 'attention'")
        if self.attention is not None and self.attention > self.blocks:
            raise ValueError(f"attention = {self.attention} reaches none of {self.blocks} blocks")
        if self.form in (*HEADLESS, "mamba2") and not attends and (self.attention_heads > 1 or self.attention_causal):
            raise ValueError("attention_heads and attention_causal need the key 'attention'")
        if attends and self.d_model % self.attention_heads:
            raise ValueError(f"d_model = {self.d_model} does not divide into {self.attention_heads} heads of attention")

    @property
    def d_inner(self) -> int:
        return self.inner or self.expand * self.d_model

    @property
    def heads(self) -> int:
        """Heads of form = 'mamba2'."""
        return self.d_inner // (self.head_dim or 1)

    @property
    def tokens(self) -> int:
        """Tokens per sequence, L."""
        if self.image and self.patch:
            return (self.image[0] // self.patch[0]) * (self.image[1] // self.patch[1])
        assert self.length is not None
        return self.length

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of the input's tokens."""
        if self.image and self.patch:
            return self.image[0] // self.patch[0], self.image[1] // self.patch[1]
        return 1, self.tokens

    @property
    def input_width(self) -> int:
        """Values per token at the input (1 for token ids)."""
        if self.image and self.patch:
            return (self.patch[0] + 2 * self.overlap) * (self.patch[1] + 2 * self.overlap) * self.image[2]
        return self.features or 1


class Stage(Config):
    """A part of a training that follows the one before, from its best weights, with a cycle of the learning rate of its own."""

    window: int = Field(ge=2, le=1 << 16, description="sequences of a recording, one after another, that are trained as one, "
                        "with the state carried from each to the next; in each epoch windows begin at other sequences")
    join: int = Field(1, ge=1, le=1 << 10, description="windows of any recordings that are trained as one, with the state "
                      "carried from each to the next: so it learns to follow a change of what is seen")
    epochs: int = Field(ge=1, le=1 << 20)
    batch: int = Field(ge=1, description="windows, or joined windows, at a time")
    peak_lr: float = Field(gt=0)


class TrainConfig(Config):
    """How a model is trained (our choice; the paper is silent)."""

    epochs: int = Field(60, ge=0, le=1 << 20, description="of single sequences; 0 with stages, which then begin at once")
    batch: int = Field(128, ge=1)
    peak_lr: float = Field(6e-3, gt=0)
    weight_decay: float = Field(0.01, ge=0)
    seed: int = 0
    noise_bits: int | None = Field(None, ge=2, le=16, description="train with the rounding noise of so many bits on y, "
                                   "gate, out and residual, as the integer model will round them")
    average: float = Field(0.0, ge=0, lt=1, description="keep a running mean of the weights, which forgets by this factor "
                           "a step, instead of the weights themselves; 0 does not")
    jitter: float = Field(0.0, ge=0, description="standard deviation of noise that is added to the standardized inputs")
    dropout: float = Field(0.0, ge=0, lt=1, description="share of the values of out that are dropped")
    label_smoothing: float = Field(0.0, ge=0, lt=1, description="share of the target that all classes get alike")
    shift: int = Field(0, ge=0, description="images are shifted by up to so many pixels, sequences by so many tokens, reflected "
                       "at the borders")
    flip: bool = Field(False, description="half of the images are mirrored, left to right")
    cutout: int = Field(0, ge=0, description="side in pixels of a square that is cut out of each image, or tokens that are cut "
                        "out of each sequence")
    thin: float = Field(0.0, ge=0, lt=1, description="share of an image's pixels that is left out, the others moving up: for "
                        "images that are lists of points and end with zeros, such as MARS")
    scale: float = Field(0.0, ge=0, lt=1, description="each sequence is multiplied by a factor of 1 ± so much")
    mask: float = Field(0.0, ge=0, lt=1, description="share of the features that are left out of each sequence")
    mix: float = Field(0.0, ge=0, le=0.5, description="each input is mixed with up to this share of another one, and so is "
                       "the loss")
    recut: bool = Field(False, description="a text's windows start at other tokens in each epoch")
    stages: list[Stage] = Field([], max_length=16, description="of model.carried: trainings over time, after that of single "
                                "sequences, the first one first")

    @property
    def all_stages(self) -> list[Stage]:
        """The training of single sequences, and what follows it."""
        alone = Stage.model_construct(window=1, join=1, epochs=self.epochs, batch=self.batch, peak_lr=self.peak_lr)
        return [*([alone] if self.epochs else []), *self.stages]

    @property
    def varies(self) -> bool:
        """Whether inputs differ from epoch to epoch before they are cut into tokens."""
        return bool(self.shift or self.flip or self.cutout or self.thin or self.scale or self.mask)


class DataConfig(Config):
    """Which data set, and which split of it."""

    name: str
    split: str | None = None


class Recipe(Config):
    """A training recipe: `[data]`, `[model]` and `[train]` of a TOML file."""

    data: DataConfig
    model: ModelConfig
    train: TrainConfig = TrainConfig()

    @model_validator(mode="after")
    def _check(self):
        model, train = self.model, self.train
        if (train.flip or train.thin) and model.input != "image":
            raise ValueError(f"train.flip and thin are for images, not for input = '{model.input}'")
        if (train.scale or train.mask) and model.input != "sequence":
            raise ValueError(f"train.scale and mask are for sequences of numbers, not for input = '{model.input}'")
        if (train.shift or train.cutout or train.jitter or train.mix) and model.input == "tokens":
            raise ValueError("train.shift, cutout, jitter and mix are for images and sequences of numbers, not for "
                             "input = 'tokens'")
        if model.image and max(train.shift, train.cutout) >= min(model.image[:2]):
            raise ValueError(f"train.shift and cutout must be below the image's smaller side of {min(model.image[:2])} pixels")
        if model.input == "sequence" and max(train.shift, train.cutout) >= model.tokens:
            raise ValueError(f"train.shift and cutout must be below the sequence's {model.tokens} tokens")
        if (train.shift or train.cutout) and model.input == "sequence" and model.pool == "none":
            raise ValueError("train.shift and cutout move what targets of every token belong to: leave them out for "
                             "pool = 'none'")
        if not train.all_stages:
            raise ValueError("train.epochs must be 1 or more where there are no train.stages")
        if train.stages and not model.carried:
            raise ValueError("train.stages carry the state from sequence to sequence and need model.carried = true")
        if train.recut and model.task != "next_token":
            raise ValueError(f"train.recut is for task = 'next_token', not for '{model.task}'")
        if train.label_smoothing and model.task == "regression":
            raise ValueError("train.label_smoothing is for classes and tokens, not for task = 'regression'")
        return self


LARGEST_TOML = 1 << 20
"""Bytes: tables of people's own hand are smaller."""
C = TypeVar("C", bound=BaseModel)


def validate(cls: type[C], data: object, where: str) -> C:
    """Validates `data` as `cls`; the first fault becomes one sentence that points at the key."""
    try:
        return cls.model_validate(data)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = brief(" ".join(".".join(str(part) for part in first["loc"]).split())) or "the whole"
        message = first["msg"].removeprefix("Value error, ")
        if first["type"] == "extra_forbidden":
            message = "unknown key"
        raise SettingError(f"{where}: {key}: {message}") from None


def load_toml(cls: type[C], path: Path | str) -> C:
    """Reads the TOML file at `path` as `cls`."""
    path = Path(path)
    try:
        data = tomllib.loads(read_text(path, LARGEST_TOML, "the configuration "))
    except (ValueError, RecursionError) as error:  # the latter of tables that are thousands deep
        raise InputError(f"{path} is not valid TOML: {brief(error)}") from None
    return validate(cls, data, str(path))


class QuantizeConfig(Config):
    """How a checkpoint becomes integers. The defaults keep the residual path at 12 bits and everything else at INT8; the
    paper's form is `residual_bits = 8`."""

    activation_bits: int = Field(8, ge=2, le=16, description="bits of every tensor that no other key names")
    residual_bits: int = Field(12, ge=2, le=16, description="bits of input, embed, y, gate, out and residual")
    output_bits: int = Field(16, ge=2, le=24, description="bits of the head's output")
    bits: dict[str, int] = Field({}, description="bits of single tensors, by name or pattern such as 'block*.z'")
    formats: dict[str, str] = Field(
        {}, description="formats of single tensors that are given, such as {'block0.z' = 'INT8*2^-5'}: outputs by the node's "
        "name, weights as 'block0.z.weight', those of a scan as 'block0.y.A', 'block0.y.D' and 'block0.y.state'")
    weight_steps: dict[str, float | list[float]] = Field(
        {}, description="value of one step of the weights of single tensors ('block0.z.weight'), one or one a channel, for "
        "weights that are whole steps: they keep their integers")
    weight_bits: int = Field(8, ge=2, le=12)
    weight_scale: Literal["power_of_two", "dyadic"] = Field(
        "power_of_two", description="one power of two per tensor (paper), or an integer multiplier and a shift per channel")
    a_bits: int | None = Field(None, ge=4, le=12, description="bits of A; if not given 8, or 10 of a model whose state is "
                               "carried from sequence to sequence, since errors of a long memory add up")
    decay_bits: int = Field(8, ge=4, le=16, description="bits of Ā, which has decay_bits − 1 fraction bits (paper: 8), "
                            "and of the exponentials of an attention")
    state_bits: int = Field(24, ge=8, le=40, description="bits of the recurrent state that y reads (paper: 24)")
    hold: bool = Field(True, description="δ = 0 keeps the state exactly; false is the paper's INT8 Ā ≤ 127/128")
    state_scale: Literal["certificate", "calibrated"] = Field(
        "certificate", description="no overflow for any input, or the range seen in calibration")
    scales: Literal["tensor", "output"] = Field(
        "tensor", description="power-of-two scales keep each tensor's squared error least, or also that of the model's outputs")
    input_term: Literal["delta_u", "delta_b"] = Field("delta_u", description="(δ·u)·B, or the paper's requantized (δ·B)·u")
    rule: Literal["minimax", "chord", "authors", "least_squares", "exact"] = Field(
        "minimax", description="how segments are fitted; least_squares weighs errors by the calibration values")
    knot_step: int | Literal["auto"] | dict[Literal["silu", "exp", "softplus", "sigmoid"], int | Literal["auto"]] = Field(
        1, description="knots are multiples of so many input codes: a power of two, or \"auto\"; or one for each function, "
        "such as {exp = 64}")
    silu_segments: int = Field(17, ge=1, le=64)
    exp_segments: int = Field(11, ge=1, le=64)
    softplus_segments: int = Field(17, ge=1, le=64)
    sigmoid_segments: int = Field(17, ge=1, le=64)
    rounding: Rounding = Rounding.HALF_UP
    frames: int | None = Field(None, ge=1, description="calibration sequences; if not given 1,500, or as many as have 32,768 "
                               "tokens: bounds the memory")

    @field_validator("formats")
    @classmethod
    def _check_formats(cls, formats):
        for text in formats.values():
            try:
                IntFormat.parse(text)
            except (SettingError, DesignLimit) as error:
                raise ValueError(str(error)) from None
        return formats

    def for_model(self, model: ModelConfig) -> "QuantizeConfig":
        """With the width that a model's A needs, where none is given."""
        return self if self.a_bits else self.model_copy(update={"a_bits": 10 if model.carried else 8})

    def calibration_frames(self, tokens: int) -> int:
        """Sequences of so many tokens to calibrate on."""
        return self.frames or max(1, min(1500, (1 << 15) // tokens))
