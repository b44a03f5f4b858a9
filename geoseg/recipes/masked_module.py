"""What learns in the recipe `masked_pretraining`, and its windows, for any Lightning Trainer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import lightning
import numpy as np
import torch
from torch.utils.data import DataLoader

from geoseg.backbones.c2fmae import UNKNOWN, CascadedAutoencoder, cascade_losses, chances, region_masking
from geoseg.backbones.mae import MaskedAutoencoder, Masking, patches_with_data, reconstruction_loss
from geoseg.backbones.saliency import saliency
from geoseg.backbones.sigmae import guided_masking, guided_share, random_masking
from geoseg.data.patches import LabelledScene, ground_statistics
from geoseg.data.samplers import TileSampler
from geoseg.data.unlabelled import UnlabelledPatches, edge_m, load_unlabelled
from geoseg.data.windows import UNLABELLED
from geoseg.errors import BandError, InputError
from geoseg.preprocess.indices import needed_roles
from geoseg.preprocess.normalise import fit_preparation
from geoseg.preprocess.prepare import Preparation
from geoseg.recipes import _training as shared
from geoseg.recipes._coarse_targets import connected_pieces, index_classes
from geoseg.recipes._ground import plan_preparation
from geoseg.recipes._masked_settings import Settings
from geoseg.recipes._schedule import make_schedule
from geoseg.scene import Scene
from geoseg.scenes.open_scene import open_scene
from geoseg.settings import parse

USUAL_GUIDE = ("NDVI", "NDWI", "NDBI")
"""SIGMAE's own indices."""
_BETAS = (0.9, 0.95)
"""Of AdamW, as in MAE."""


class MaskedPretraining(lightning.LightningModule):
    """A masked autoencoder that hides patches by the spectral indices that come with each image, or at random: SIGMAE, MAE or C2FMAE.

    Batches are dicts of `image` (batch, band and then guiding index, row, col), normalised bands and plain indices, 0 where not valid,
    `labels` (batch, row, col) with -1 where not valid, and `pixel_size_m` (batch,), as `UnlabelledScenes` gives them.

    >>> module = geoseg.MaskedPretraining(["red", "nir"], ["NDVI"])
    >>> sum(weights.numel() for weights in module.parameters()) > 100_000
    True
    """

    def __init__(self, bands: Sequence[str], guide: Sequence[str], settings: dict[str, Any] | Settings | None = None) -> None:
        """`bands` by role and `guide` by name, in the order of the image's planes; PackageError for what cannot be built."""
        super().__init__()
        self.settings = settings if isinstance(settings, Settings) else parse(Settings, settings or {}, source="settings")
        wanted = self.settings
        if wanted.method != "mae" and not guide:
            raise InputError(f"method: {wanted.method} needs at least one spectral index in guide; name one, or take method: mae")
        self.bands, self.guide = tuple(bands), tuple(guide)
        sized: dict[str, Any] = {"size": wanted.size, "patch": wanted.patch, "depth": wanted.depth}
        self.network: MaskedAutoencoder | CascadedAutoencoder
        if wanted.method == "c2fmae":
            self.network = CascadedAutoencoder(len(bands), len(guide) + 1, **sized)
        else:
            self.network = MaskedAutoencoder(len(bands), **sized)
        plain = wanted.model_dump(mode="json")
        self.save_hyperparameters({"bands": list(bands), "guide": list(guide), "settings": plain})

    def forward(self, image: torch.Tensor, pixel_size_m: float = 10.0) -> torch.Tensor:
        """Features (batch, token, width) of images (batch, band, row, col), nothing hidden."""
        features: torch.Tensor = self.network.encoder(image, pixel_size_m=pixel_size_m)
        return features

    def training_step(self, batch: dict[str, torch.Tensor], batch_idx: int) -> torch.Tensor:
        """The error of what was guessed in one batch; InputError where it is no number."""
        image, indices = batch["image"][:, : len(self.bands)], batch["image"][:, len(self.bands) :]
        valid = batch["labels"] != UNLABELLED
        place = np.random.SeedSequence((self.settings.seed, self.current_epoch, batch_idx, self.global_rank))
        generator = torch.Generator().manual_seed(int(place.generate_state(1)[0]))  # by the place in the training alone
        if isinstance(self.network, CascadedAutoencoder):
            loss = self._coarse_to_fine(self.network, image, indices, valid, batch["pixel_size_m"], generator)
        else:
            has_data = patches_with_data(valid, self.settings.patch)
            masking = self.choose(indices, valid, has_data, generator)
            guess = self.network(image, masking, has_data=has_data, pixel_size_m=batch["pixel_size_m"])
            loss = reconstruction_loss(guess.float(), image, valid, masking.masked, self.settings.patch)
        if not torch.isfinite(loss):
            raise InputError(
                f"the loss is {loss.item():g} in epoch {self.current_epoch + 1}, batch {batch_idx + 1}; take a lower learning_rate, "
                "and look for values of the scenes that cannot be"
            )
        self.log("loss", loss, on_step=False, on_epoch=True, batch_size=len(image))
        return loss

    def choose(self, indices: torch.Tensor, valid: torch.Tensor, has_data: torch.Tensor, generator: torch.Generator) -> Masking:
        """What is hidden in a batch of guiding indices (batch, index, row, col), by SIGMAE or at random."""
        wanted = self.settings
        if wanted.method == "mae":
            return random_masking(has_data, ratio=wanted.ratio, generator=generator)
        share = guided_share(self.progress, wanted.curriculum)
        self.log("guided", share, on_step=False, on_epoch=True, batch_size=len(indices))
        scores = saliency(indices, valid, wanted.patch, alpha=wanted.richness)
        return guided_masking(scores, has_data, ratio=wanted.ratio, share=share, generator=generator)

    def _coarse_to_fine(
        self,
        network: CascadedAutoencoder,
        image: torch.Tensor,
        indices: torch.Tensor,
        valid: torch.Tensor,
        pixel_size_m: torch.Tensor,
        generator: torch.Generator,
    ) -> torch.Tensor:
        """The three losses of C2FMAE together; each image hides by its classes, its pieces or at random."""
        wanted = self.settings
        classes = index_classes(indices, valid)
        pieces = connected_pieces(classes)
        odds = chances(self.progress) if wanted.curriculum != "none" else (0.0, 0.0, 1.0)
        drawn = torch.rand((len(image), 1, 1), generator=generator).to(image.device)
        regions = torch.where(drawn < odds[0], classes, torch.where(drawn < odds[0] + odds[1], pieces, UNKNOWN))
        has_data = patches_with_data(valid, wanted.patch)
        masking = region_masking(regions, has_data, ratio=wanted.ratio, patch=wanted.patch, generator=generator)
        guess = network(image, masking, has_data=has_data, pixel_size_m=pixel_size_m)
        losses = cascade_losses(guess, image, classes, pieces, valid, masking.masked, wanted.patch)
        parts = {"semantic": losses.semantic, "instance": losses.instance, "pixels": losses.pixels}
        self.log_dict(parts, on_step=False, on_epoch=True, batch_size=len(image))
        return losses.total

    @property
    def progress(self) -> float:
        """0 in the first step, 1 in the last."""
        steps = int(self.trainer.estimated_stepping_batches)
        return min(1.0, self.global_step / max(1, steps - 1))

    def configure_optimizers(self) -> Any:
        """AdamW as in MAE; the learning rate rises in a line and falls as a cosine."""
        return encoder_optimizer(self, self.settings)


def encoder_optimizer(module: lightning.LightningModule, wanted: Settings) -> Any:
    """AdamW as in MAE over all that learns; the learning rate rises in a line and falls as a cosine."""
    steps = int(module.trainer.estimated_stepping_batches)
    learns = [parameter for parameter in module.parameters() if parameter.requires_grad]
    matrices = [parameter for parameter in learns if parameter.ndim > 1]
    others = [parameter for parameter in learns if parameter.ndim <= 1]
    groups = [{"params": matrices, "weight_decay": wanted.weight_decay}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=wanted.learning_rate, betas=_BETAS)
    schedule = make_schedule(optimizer, "cosine", rate=wanted.learning_rate, steps=steps, warm_up=wanted.warm_up)
    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


class UnlabelledScenes(lightning.LightningDataModule):
    """Scenes where they lie, without labels: prepared as for mapping, drawn as windows around valid ground, evenly.

    Scenes may differ in pixel size, which goes with each window. Under DDP each process draws its own share of every epoch, so give the
    Trainer `use_distributed_sampler=False`.

    >>> module = geoseg.UnlabelledScenes(["scene.tif"], {"tile": 32, "batch": 4})
    >>> module.setup("fit")
    >>> tuple(next(iter(module.train_dataloader()))["image"].shape)  # (batch, band and guiding index, row, col)
    (4, 3, 32, 32)
    """

    bands: tuple[str, ...]
    """The image's first planes, by role; known after `look`, as what follows."""
    guide: tuple[str, ...]
    """The spectral indices behind them, which say what is worth guessing."""
    plan: Preparation
    """Both, without statistics."""
    scenes: tuple[LabelledScene, ...]
    """Known after `setup`, as what follows."""
    preparation: Preparation
    """Both, with the bands' statistics over all valid ground."""

    def __init__(
        self, scenes: Sequence[Any], settings: dict[str, Any] | Settings | None = None, *, opening: dict[str, Any] | None = None
    ) -> None:
        """`scenes` are Scenes, or what `open_scene` opens, with its options in `opening`, such as `sensor`; nothing is read yet."""
        super().__init__()
        self.settings = settings if isinstance(settings, Settings) else parse(Settings, settings or {}, source="settings")
        if not scenes:
            raise InputError("no scene to learn from was given; name at least one")
        if self.settings.tile % self.settings.patch:
            raise InputError(f"tile: {self.settings.tile} is no multiple of patch: {self.settings.patch}; choose one that is")
        self.sources, self.opening = list(scenes), dict(opening or {})

    def look(self) -> None:
        """Open the scenes, without reading pixels: afterwards bands and indices are known. BandError where no index can be taken."""
        if hasattr(self, "plan"):
            return
        wanted = self.settings
        self.opened = [source if isinstance(source, Scene) else open_scene(source, **self.opening) for source in self.sources]
        plain = plan_preparation(self.opened[0], wanted.bands, (), wanted.terrain_correction, wanted.despeckle)
        self.bands = tuple(need.role for need in plain.bands)
        self.guide = _guide(self.bands, wanted) if wanted.method != "mae" else ()
        self.plan = plan_preparation(self.opened[0], self.bands, self.guide, wanted.terrain_correction, wanted.despeckle)
        self.guide = tuple(channel.name for channel in self.plan.channels if channel.kind == "index")

    def setup(self, stage: str | None = None) -> None:
        """Find the valid ground and measure its statistics; once, whatever the stage."""
        if hasattr(self, "preparation"):
            return
        self.look()
        wanted = self.settings
        self.scenes = tuple(load_unlabelled(self.opened, self.plan, hold_mb=wanted.hold_mb, retile=wanted.retile))
        self._everywhere = [np.ones(scene.labels.shape, dtype=bool) for scene in self.scenes]
        self._sampler = TileSampler([scene.labels for scene in self.scenes], self._everywhere, tile=wanted.tile, rare=0)
        statistics = ground_statistics(self.scenes, self._everywhere, self.plan)
        self.preparation = fit_preparation(self.plan, statistics, keep_indices_raw=True)

    @property
    def pixel_size_m(self) -> float:
        """Mean edge of a pixel over the scenes, in metres on the ground."""
        return float(np.mean([edge_m(scene) for scene in self.scenes]))

    def train_dataloader(self) -> DataLoader[Any]:
        """Windows drawn at random, turned and mirrored; each epoch others, the same in every run."""
        wanted = self.settings
        sizes = tuple(edge_m(scene) for scene in self.scenes)
        patches = UnlabelledPatches(self.scenes, self._everywhere, self.preparation, self._sampler, wanted.seed, pixel_sizes_m=sizes)
        rank, world = (self.trainer.global_rank, self.trainer.world_size) if self.trainer is not None else (0, 1)
        return shared.training_loader(
            patches, draws=wanted.draws, batch=wanted.batch, workers=wanted.workers, rank=rank, world=world, group=wanted.group
        )


def _guide(bands: Sequence[str], wanted: Settings) -> tuple[str, ...]:
    """The indices that are asked for, or those of SIGMAE's that the bands allow."""
    found = wanted.guide or tuple(name for name in USUAL_GUIDE if set(needed_roles(name, bands)) <= set(bands))
    if not found:
        raise BandError(
            f"none of {', '.join(USUAL_GUIDE)} can be taken from {', '.join(bands)}; name other indices with guide: [NAME], "
            "or take method: mae"
        )
    return found
