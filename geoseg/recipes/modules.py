"""What learns in the recipe `supervised`, as a LightningModule that any Trainer can drive."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import lightning
import numpy as np
import torch
from lightning.pytorch.callbacks import Callback
from pydantic import JsonValue

from geoseg.confusion import Confusion
from geoseg.errors import InputError
from geoseg.legend import Legend
from geoseg.models.description import DEFAULT_OUTPUT
from geoseg.models.encoders import Encoder
from geoseg.models.losses import get_loss
from geoseg.models.segmenter import CROSSEARTH_SAR, QUERY, TRANSFORMERS, Segmenter, build_network
from geoseg.models.stems import load_encoder
from geoseg.recipes import _training as shared
from geoseg.recipes._crossearth import log_experts, start_from_dinov2, tell_decibels
from geoseg.recipes._fine_tuning import add_adapter, freeze, parameter_groups
from geoseg.recipes._pretrained import load_pretrained, with_network_of, with_pixel_size
from geoseg.recipes._schedule import make_schedule
from geoseg.recipes._settings import Settings
from geoseg.recipes._start import Stay, check_channels, load_start, open_start, with_start
from geoseg.recipes.datamodule import ScenesDataModule
from geoseg.recipes.hard_examples import HardExamples, missed
from geoseg.settings import parse

_QUERY_RATE = 5e-4
"""Learning rate of a decoder of queries, where the settings name none."""
_RATE = 2e-3
"""Where the settings leave the learning rate to a test, and none was made."""


class SupervisedSegmentation(lightning.LightningModule):
    """A network, its loss, and the pooled confusion by which training stops (`val_miou`).

    Batches are dicts of `image` (batch, channel, row, col) and `labels` (batch, row, col) with -1 where nothing is known, as
    `ScenesDataModule` gives them.

    >>> module = geoseg.SupervisedSegmentation(["dry land", "water"], ["red", "nir"])
    >>> tuple(module(torch.zeros(1, 2, 64, 64)).shape)  # (batch, class, row, col)
    (1, 2, 64, 64)
    """

    class_weights: torch.Tensor | None
    """(class,) weights in the loss; None weighs all classes alike."""

    def __init__(
        self,
        classes: Sequence[str],
        channels: Sequence[str],
        settings: dict[str, Any] | Settings | None = None,
        *,
        class_weights: Sequence[float] | None = None,
        pixel_size_m: float | None = None,
    ) -> None:
        """`classes` and `channels` by name, in order; `settings` are those of `geoseg train`, and what concerns data is not looked at.
        `pixel_size_m` is that of all images, for networks that are told of it; None leaves them their own.

        Raises InputError and PackageError for what cannot be built.
        """
        super().__init__()
        self.settings = settings if isinstance(settings, Settings) else parse(Settings, settings or {}, source="settings")
        self.legend = Legend.from_names(list(classes))
        pretrained = None if self.settings.pretrained is None else Encoder.open(self.settings.pretrained)
        start = None if self.settings.start is None else open_start(self.settings.start)
        if start is not None:
            self.settings = with_start(self.settings, start)
            check_channels(start, classes, channels)
        if pretrained is None and start is None and self.settings.encoder_weights is None and self.settings.freeze:
            raise InputError("freeze: true leaves an encoder as it is, and none was given; name one with pretrained or encoder_weights")
        if pretrained is not None:
            self.settings = with_network_of(pretrained, self.settings, channels)
        if pixel_size_m is not None and start is None:
            self.settings = with_pixel_size(self.settings, pixel_size_m)
        if self.settings.network.get("decoder") == QUERY and start is None:
            self.settings = _for_queries(self.settings)
        self.architecture: dict[str, JsonValue] = {
            "family": self.settings.family,
            **({"encoder": self.settings.encoder} if self.settings.family not in TRANSFORMERS else {}),
            "in_channels": len(channels),
            "classes": len(classes),
            **(
                {"detail": self.settings.detail}
                if self.settings.family.startswith(("smp.", *TRANSFORMERS)) and self.settings.detail
                else {}
            ),
            **self.settings.network,
        }
        self.network: Segmenter = build_network(self.architecture)
        self.stem = ""
        """How published weights were adapted to the channels, in a sentence; empty where there are none."""
        if self.settings.encoder_weights is not None and self.settings.family == CROSSEARTH_SAR:
            self.stem = start_from_dinov2(self.network, self.settings.encoder_weights)
        elif self.settings.encoder_weights is not None:
            self.stem = load_encoder(self.network, self.architecture, channels, self.settings.encoder_weights)
        if pretrained is not None:
            self.stem = load_pretrained(self.network, pretrained, channels)
        if start is not None:
            self.stem = load_start(self.network, start)
        self._stay = Stay(self.network, self.settings.stay) if start is not None and self.settings.stay else None
        if self.settings.freeze:
            self.stem += f" {freeze(self.network, self.settings.freeze)}"
        if self.settings.adapter is not None:
            self.stem += f" {add_adapter(self.network, self.settings.adapter)}"
        self.loss = get_loss(self.settings.loss, label_smoothing=self.settings.label_smoothing)
        self.learning_rate = _RATE if self.settings.learning_rate == "auto" else self.settings.learning_rate
        """The greatest of the schedule; what Lightning's Tuner sets."""
        if class_weights is not None and (len(class_weights) != len(classes) or min(class_weights) < 0 or max(class_weights) == 0):
            raise InputError(
                f"class weights {list(class_weights)}; expected a number of 0 or more for each of {', '.join(classes)}, not all of them 0"
            )
        weights = None if class_weights is None else torch.tensor(class_weights, dtype=torch.float32)
        self.register_buffer("class_weights", weights, persistent=False)
        self.counted = Confusion.empty(self.legend)
        """Of the pass over the validation ground that is running or was the last."""
        self.save_hyperparameters(
            {
                "classes": list(classes),
                "channels": list(channels),
                "settings": self.settings.model_dump(mode="json")
                | {"encoder_weights": None, "pretrained": None, "start": None, "freeze": False},
                "class_weights": None if class_weights is None else list(class_weights),
            }
        )  # with which a checkpoint is opened again; it holds all weights, so that nothing is to be fetched for it

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Logits (batch, class, row, col) of images (batch, channel, row, col)."""
        return self.network(image)[DEFAULT_OUTPUT]  # type: ignore[no-any-return]  # torch types every call as Any

    def configure_callbacks(self) -> list[Callback]:
        """What notes hard windows, where the settings ask for it."""
        return [HardExamples()] if self.settings.hard else []

    def training_step(self, batch: dict[str, torch.Tensor], batch_idx: int) -> dict[str, torch.Tensor]:
        """`loss` of one batch, and what was `missed` in each of its patches where `hard` asks for it.

        InputError where the loss is no number, since nothing could be learned any more.
        """
        loss, logits = self.loss_of(self.network, batch)
        if self._stay is not None:
            loss = loss + self._stay.loss(batch, logits)
        if not torch.isfinite(loss):
            raise InputError(self._broken(f"the loss is {loss.item():g} in epoch {self.current_epoch + 1}, batch {batch_idx + 1}"))
        self.log("loss", loss, on_step=False, on_epoch=True, prog_bar=True, batch_size=len(logits))
        return {"loss": loss} | ({"missed": missed(logits, batch["labels"])} if self.settings.hard else {})

    def loss_of(self, network: Segmenter, batch: dict[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        """The loss of a network on a batch, its own where it has one, and its logits (batch, class, row, col)."""
        logits, labels = network(batch["image"])[DEFAULT_OUTPUT], batch["labels"]
        loss = network.own_loss(labels)
        if loss is None:
            loss = self.loss(logits, labels, None if self.class_weights is None else self.class_weights.to(logits.device))
        extra = network.extra_loss()
        return (loss if extra is None else loss + extra), logits

    def setup(self, stage: str) -> None:
        """Tell the network what its input stands for, where it asks and the data know; InputError where that does not go together."""
        data = getattr(self.trainer, "datamodule", None)
        if stage == "fit" and isinstance(data, ScenesDataModule):
            tell_decibels(self.network, data.preparation)

    def on_train_batch_start(self, batch: dict[str, torch.Tensor], batch_idx: int) -> None:
        """What a network draws at random, as dropout does, depends on its place in the training alone: so this can be taken up again."""
        place = np.random.SeedSequence((self.settings.seed, self.current_epoch, batch_idx, self.global_rank))
        torch.manual_seed(int(place.generate_state(1)[0]))

    def on_validation_start(self) -> None:
        """Refuse to judge a network that is broken, before a checkpoint is made of it; all processes judge with the same statistics."""
        if not all(torch.isfinite(tensor).all() for tensor in self.parameters()):
            raise InputError(self._broken(f"weights are not finite after the last batch of epoch {self.current_epoch + 1}"))
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            for buffer in self.buffers():
                torch.distributed.broadcast(buffer, 0)

    def on_validation_epoch_start(self) -> None:
        """Start to count anew."""
        self.counted = Confusion.empty(self.legend)

    def validation_step(self, batch: dict[str, torch.Tensor], batch_idx: int) -> None:
        """Count truth against guess, in evaluation mode; measures are taken of the sum, never averaged over batches."""
        self.counted += shared.count_batch(self(batch["image"]), batch["labels"], self.legend)

    def on_validation_epoch_end(self) -> None:
        """Log the pooled measures of the validation ground."""
        self.log("val_miou", self.counted.mean_iou, prog_bar=True)
        for name, figure in log_experts(self.network).items():
            self.log(f"val {name}", figure)
        for name, figures in self.counted.figures().items():
            self.log(f"val_iou_{name}", figures["iou"])

    def on_test_epoch_start(self) -> None:
        """Start to count anew."""
        self.on_validation_epoch_start()

    def test_step(self, batch: dict[str, torch.Tensor], batch_idx: int) -> None:
        """Count as in validation."""
        self.validation_step(batch, batch_idx)

    def on_test_epoch_end(self) -> None:
        """Log the pooled measures of the test ground."""
        self.log("test_miou", self.counted.mean_iou)
        for name, figures in self.counted.figures().items():
            self.log(f"test_iou_{name}", figures["iou"])

    def configure_optimizers(self) -> Any:
        """AdamW (Loshchilov & Hutter, 2019), its rate rising and falling over all steps that are planned."""
        wanted, steps = self.settings, int(self.trainer.estimated_stepping_batches)
        groups = parameter_groups(self.network, self.learning_rate, wanted.layer_decay)
        optimizer = torch.optim.AdamW(groups, lr=self.learning_rate, weight_decay=wanted.weight_decay)
        schedule = make_schedule(optimizer, wanted.schedule, rate=self.learning_rate, steps=steps, warm_up=wanted.warm_up)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def _broken(self, what: str) -> str:
        cure = "take a lower learning_rate" + ("" if self.settings.precision == "32" else " or precision: 32")
        return f"{what}, at a learning rate of up to {self.learning_rate:.2g}; {cure}, and look for values of the scene that cannot be"


def _for_queries(settings: Settings) -> Settings:
    """The settings for a decoder of queries: no detail, and a lower learning rate where they name none.

    InputError where they ask for a loss of pixels, since queries have their own.
    """
    if settings.loss != Settings.model_fields["loss"].default or settings.label_smoothing:
        asked = f"loss: {settings.loss}" + (f", label_smoothing: {settings.label_smoothing:g}" if settings.label_smoothing else "")
        raise InputError(f"{asked} and a decoder of queries, which has a loss of its own; leave one of them out")
    rate = settings.learning_rate if "learning_rate" in settings.model_fields_set or settings.pretrained else _QUERY_RATE
    return settings.model_copy(update={"detail": 0, "learning_rate": rate})
