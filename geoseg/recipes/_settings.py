"""What can be said of a supervised training, checked when it is read."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, JsonValue

from geoseg.data.augment import Jitter
from geoseg.data.weather import Augment
from geoseg.recipes._common_settings import CommonSettings
from geoseg.settings import Settings as PlainSettings

Schedule = Literal["one_cycle", "cosine", "poly"]
Precision = Annotated[Literal["32", "bf16-mixed", "16-mixed"], BeforeValidator(str)]
"""Of the numbers that a network is trained in; a bare 32 in YAML is meant too."""


class Adapter(PlainSettings):
    """What learns beside an encoder that is left as it is."""

    method: Literal["lora", "dora", "ia3"] = "lora"
    """Two thin matrices beside a layer, the same with the length of its kernels apart, or one factor for each feature."""
    rank: int = Field(default=8, ge=1)
    """Numbers between the two matrices."""
    alpha: float = Field(default=16, gt=0)
    """What the matrices say counts alpha / rank times."""
    targets: tuple[str, ...] | None = Field(default=None, min_length=1)
    """Endings of the names of linear layers; None takes those of attention."""


def _named(given: object) -> object:
    """A method's name alone stands for itself with its usual options."""
    return {"method": given} if isinstance(given, str) else given


class Settings(CommonSettings):
    """What can be said of a training; every field has a value that works."""

    keep_indices_raw: bool = True
    """Leave indices as they are (they lie between -1 and 1); False normalises them as the bands."""

    family: str = "smp.Unet"
    encoder: str = "tu-mobilenetv3_small_050"
    encoder_weights: str | None = None
    """None starts from random weights. A name, such as `imagenet`, downloads published ones; a file that ends in .safetensors holds
    those of this encoder for red, green and blue. Either is adapted to the bands by their roles. The family `crossearth_sar.Pyramid`
    takes a file of DINOv2's, .safetensors or .pth."""
    pretrained: Path | None = None
    """An encoder, a folder or .zip, that `masked_pretraining` made, or `geoseg models fetch` of a published network: the network is then
    its backbone, which takes each band's weights by role and its statistics. None starts without."""
    start: Path | None = None
    """A model package of this recipe, a folder or .zip, that learns on, such as from corrections of its maps: the network, bands,
    statistics and classes are its own, and ground that it holds out is not learned from. Where they are not said, `learning_rate` is then
    2e-4, `epochs` 8 and `patience` 4. None begins anew."""
    stay: float = Field(default=1.0, ge=0)
    """With `start`: how much it counts that scores stay as they were where nothing is labelled, against forgetting."""
    freeze: bool | Annotated[int, Field(ge=1)] = False
    """Leave the weights of `pretrained` or `encoder_weights` as they are: only the decoder behind them learns, which suits few labels. A
    number leaves so many first blocks of the encoder, and what stands before them."""
    adapter: Annotated[Adapter, BeforeValidator(_named)] | None = None
    """Leave those weights as they are, and learn few numbers beside them that are merged into them in the end: `lora`, `dora` or `ia3`,
    or with options, as `{method: lora, rank: 16, targets: [attn.qkv, mlp.fc1]}`. Needs peft."""
    layer_decay: float | None = Field(default=None, gt=0, le=1)
    """Block i of an encoder of n learns at this to the power of n + 1 - i of the learning rate, what stands before the blocks at the power
    of n + 1, and the decoder at the full rate; 0.75 is usual. None has all learn alike."""
    network: dict[str, JsonValue] = Field(default_factory=dict)
    """Further options of the network, such as `decoder_channels`, or `decoder: query` for Mask2Former's behind a transformer."""
    detail: int = Field(default=32, ge=0)
    """Features of each single pixel beside the network, whose encoder halves the image at once (`smp.` families); 0 leaves them out.
    A decoder of queries has none."""

    tile: int | None = Field(default=None, ge=32)
    """Edge of the windows in pixels; None takes three quarters of `block`, at most 256."""
    map_tile: int | None = Field(default=None, ge=32)
    """Edge of the tiles when mapping. None takes four times `tile`, at most 1024, which leaves fewer and fainter seams, where the network
    looks at a pixel's surroundings only; one with means over the whole tile, as in squeeze-and-excitation, keeps those of training."""
    split: Literal["blocks", "scenes", "regions", "dates"] = "blocks"
    """What is held out as a whole: blocks of the scenes, whole scenes, polygons of the file `regions`, or the scenes of the latest days."""
    regions: str | None = None
    """Vector file whose polygons say train, validation or test in the column `region_column`; what none covers has no say."""
    region_column: str = "part"
    block: int | None = Field(default=None, ge=32)
    """Edge in pixels of the blocks that are trained on or held out as a whole, at least `tile`; None takes the largest, up to 512, of
    which sixteen hold labels."""
    guard: int = Field(default=16, ge=0)
    """Pixels between ground of two parts, at least."""
    validation: float = Field(default=0.15, gt=0, lt=0.5)
    test: float = Field(default=0.15, gt=0, lt=0.5)
    """Shares of the labelled blocks to stop by, and to be judged on."""

    batch: int = Field(default=16, ge=2)
    epochs: int = Field(default=20, ge=1)
    draws: int = Field(default=200, ge=2)
    """Windows in an epoch."""
    patience: int = Field(default=8, ge=1)
    """Epochs without a better mean IoU on the validation blocks after which training stops."""
    learning_rate: Annotated[float, Field(gt=0)] | Literal["auto"] = 2e-3
    """The greatest that the schedule reaches; `auto` measures it first, in a test of at most a hundred steps. Where it is not said and
    `pretrained` is, or the decoder is one of queries, it is 5e-4."""
    schedule: Schedule = "one_cycle"
    """How the learning rate falls after it has warmed up; see `geoseg.recipes._schedule`."""
    warm_up: float = Field(default=0.2, gt=0, lt=1)
    """Share of all steps in which the learning rate rises."""
    weight_decay: float = Field(default=1e-2, ge=0)
    ema: float | None = Field(default=0.98, gt=0, lt=1)
    """What the mean of the weights keeps of itself in each step; validated and written is then the mean. None takes the weights as
    they are."""
    precision: Precision = "32"
    """`bf16-mixed` and `16-mixed` are for devices that compute in them."""
    accumulate: int = Field(default=1, ge=1)
    """Batches whose gradients make one step."""
    loss: str = "cross_entropy_dice"
    """Names of `geoseg.models.losses`, several of them joined by `_` for their mean. A decoder of queries has its own (`set_loss.py`), in
    which `class_weights` have no say either."""
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    """Share of a label that cross entropy spreads over all classes."""
    class_weights: Literal["balanced", "none"] = "balanced"
    """`balanced` weighs a class by one over the root of its share."""
    rare: float = Field(default=0.5, ge=0, le=1)
    """Share of windows drawn around a class that is drawn evenly among the classes."""
    hard: float = Field(default=0.0, ge=0, lt=1)
    """Share of windows drawn where the network erred so far, from the second epoch on."""
    group: int = Field(default=8, ge=1)
    """Windows drawn from each piece of ground that is read, in scenes too large for the memory; mixed so that a batch holds many places.
    1 reads each window by itself, which takes about twice the time."""
    jitter: Jitter = Jitter(gain=0.1, band_gain=0.03, haze=0.02, noise=0.002)
    """How the light is altered before indices are taken; only bands in reflectance."""
    augment: Augment = Augment()
    """What patches go through besides: `{clouds: {}}` for clouds and their shadows, `{speckle: {looks: 8}}` for radar; with settings of
    `geoseg/data/weather.py`."""

    coarsen: float = Field(default=1.0, ge=1, le=4)
    """Greatest factor by which the pixels of a patch are larger than the scene's, averaged as a coarser sensor sees the ground; the package
    then takes scenes of such pixels, too."""
    drop_channels: float = Field(default=0.0, ge=0, lt=1)
    """Chance of each channel of a patch to be left at its mean, so that a network learns not to lean on one alone."""

    workers: int = Field(default=0, ge=0)
    """Processes that read windows; 0 reads in the training process."""
    calibrate: bool = True
    """Fit a temperature on the validation blocks, so that the scores of maps are frequencies on ground like that; classes stay the same."""
    compare: Literal["forest", "none"] = "forest"
    """`forest`: the report also says how a random forest on single pixels of the same ground does, where scikit-learn is installed."""
    pictures: int = Field(default=4, ge=0)
    """Patches that were held out, shown in the report with truth and prediction."""
