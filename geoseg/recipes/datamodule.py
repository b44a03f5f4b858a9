"""Labelled scenes as batches, for Lightning: what the recipe `supervised` trains on, and for trainers of one's own."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning
import numpy as np
from numpy.typing import NDArray
from torch.utils.data import DataLoader

from geoseg.data.date_splits import split_dates
from geoseg.data.difficulty import Difficulty
from geoseg.data.patches import Alter, LabelledScene, TrainingPatches, ground_statistics
from geoseg.data.region_splits import split_regions
from geoseg.data.samplers import EpochSampler, TileSampler
from geoseg.data.splits import PARTS, Part, fitting_block, split_blocks, split_scenes
from geoseg.data.windows import UNLABELLED
from geoseg.errors import InputError, LabelError
from geoseg.ground import pixel_size_m
from geoseg.legend import Legend
from geoseg.models.encoders import Encoder
from geoseg.preprocess.normalise import fit_preparation, without_statistics
from geoseg.preprocess.prepare import Preparation
from geoseg.recipes import _ground as given
from geoseg.recipes import _training as shared
from geoseg.recipes._corrections import AllLearned, held_out_before, leave_out
from geoseg.recipes._pretrained import with_its_statistics
from geoseg.recipes._settings import Settings
from geoseg.recipes._start import check_start_fits, open_start, with_start
from geoseg.scene import Scene
from geoseg.scenes.open_scene import open_scene
from geoseg.settings import parse
from geoseg.stacks.series import one_date, series_preparation

_LEAST_TILE, _LARGEST_TILE, _STEP = 64, 256, 32
"""Pixels: edges of a window where nobody says how many; a multiple of the coarsest step of most networks."""


class ScenesDataModule(lightning.LightningDataModule):
    """Scenes where they lie, with their labels: divided into blocks, prepared as for mapping, drawn as windows.

    Batches are dicts of `image` (batch, channel, row, col), float32, normalised, 0 where not valid, and `labels` (batch, row, col),
    int64, -1 where nothing is known. Under DDP each process draws its own share of every epoch, so give the Trainer
    `use_distributed_sampler=False`; each judges all of the held-out ground, so that all come to the same figure.

    >>> module = geoseg.ScenesDataModule(["scene.tif"], ["truth.gpkg"], {"tile": 64, "batch": 4})
    >>> module.look()
    >>> module.legend.names
    ('dry land', 'water')
    """

    legend: Legend
    """The classes, in the order of their indices; known after `look`, as what follows."""
    plan: Preparation
    """What the network receives, its statistics not measured yet."""
    ground: given.Ground
    """The scenes, and which part of them is which; known after `setup`, as what follows."""
    preparation: Preparation
    """With the statistics of the training ground."""
    tile: int
    """Edge of the windows in pixels."""

    def __init__(
        self,
        scenes: Sequence[Any],
        labels: Sequence[str | Path],
        settings: dict[str, Any] | Settings | None = None,
        *,
        opening: dict[str, Any] | None = None,
        alter: Alter | None = None,
    ) -> None:
        """`scenes` are Scenes, or what `open_scene` opens, with its options in `opening`, such as `sensor`; `labels` one file for
        each scene, or one for all.

        `settings` are those of `geoseg train`; what concerns the network or its training is not looked at here. `alter` replaces
        their jitter, see `geoseg.data.patches.Alter`. Raises InputError for what does not go together; nothing is read yet.
        """
        super().__init__()
        self.settings = settings if isinstance(settings, Settings) else parse(Settings, settings or {}, source="settings")
        if not scenes or len(labels) not in (1, len(scenes)):
            raise InputError(f"{len(scenes)} scenes and {len(labels)} label files; give one label file for each scene, or one for all")
        tile, block = self.settings.tile, self.settings.block
        if tile is not None and block is not None and block < tile:
            raise InputError(f"blocks of {block} pixels are smaller than a tile of {tile}; no window has room in one")
        if (self.settings.split == "regions") != (self.settings.regions is not None):
            raise InputError("split: regions goes with the file of polygons, regions: FILE; give both or neither")
        if self.settings.calendar is not None and self.settings.terrain_correction is not None:
            raise InputError("a series is not corrected for terrain; leave out terrain_correction or calendar")
        self.sources, self.opening, self.alter = list(scenes), dict(opening or {}), alter
        self.labels = [str(path) for path in (list(labels) * len(scenes) if len(labels) == 1 else labels)]
        self.scenes: list[Scene] = []
        self.start = None if self.settings.start is None else open_start(self.settings.start)
        """The package that learns on; None where the learning begins anew or with an encoder."""
        if self.start is not None:
            self.settings = with_start(self.settings, self.start)
        self.left_out = ""
        """A sentence on labels that lie on ground which that package holds out; empty where there are none."""

    @property
    def channels(self) -> tuple[str, ...]:
        """Names of the image's planes, in order."""
        return tuple(channel.name for channel in self.plan.channels)

    @property
    def pixel_size_m(self) -> float:
        """Edge of a pixel of the first scene, in metres on the ground; known after `look`."""
        return math.sqrt(math.prod(pixel_size_m(self.scenes[0].geobox([need.role for need in self.plan.bands]))))

    def look(self) -> None:
        """Open the scenes and the labels' legends, without reading pixels: afterwards classes and channels are known."""
        if self.scenes:
            return
        scenes = [source if isinstance(source, Scene) else open_scene(source, **self.opening) for source in self.sources]
        wanted = self.settings
        if self.start is not None:
            self.legend, self.plan = self.start.outputs[0].legend, without_statistics(self.start.preparation)
            for scene in scenes:
                check_start_fits(self.start, scene)
            self.scenes = scenes
            return
        self.legend = (
            Legend(wanted.classes) if wanted.classes else given.common_legend(self.labels, wanted.class_column, wanted.label_rules)
        )
        if wanted.calendar is None:
            self.plan = given.plan_preparation(scenes[0], wanted.bands, wanted.indices, wanted.terrain_correction, wanted.despeckle)
        else:
            plain = given.plan_preparation(one_date(scenes[0]), wanted.bands, wanted.indices, despeckle=wanted.despeckle)
            self.plan = series_preparation(scenes[0], wanted.calendar, plain)
        self.scenes = scenes

    def setup(self, stage: str | None = None) -> None:
        """Read the labels, divide the ground, measure the statistics of its training part; once, whatever the stage."""
        if hasattr(self, "preparation"):
            return
        self.look()
        wanted, generator = self.settings, np.random.default_rng(self.settings.seed)
        scenes = given.load_scenes(
            self.scenes, self.labels, self.plan, self.legend, wanted.class_column, wanted.hold_mb, wanted.label_rules, wanted.retile
        )
        if self.start is not None:
            scenes, self.left_out = leave_out(scenes, held_out_before(self.start), wanted.guard)
        block = wanted.block or fitting_block([scene.labels for scene in scenes], least=wanted.tile or _LEAST_TILE)
        self.tile = wanted.tile or min(_LARGEST_TILE, max(_LEAST_TILE, block * 3 // 4 // _STEP * _STEP))
        self.ground = self._divide(scenes, block, generator)
        mine = self.ground.masks["train"]
        known = [scene.labels for scene in self.ground.scenes]
        self._sampler = TileSampler(known, mine, tile=self.tile, rare=wanted.rare)
        self._difficulty = Difficulty([plane.shape for plane in known])
        if self.start is not None:
            self.preparation = self.start.preparation
            return
        statistics = ground_statistics(self.ground.scenes, mine, self.plan)
        self.preparation = fit_preparation(self.plan, statistics, keep_indices_raw=wanted.keep_indices_raw)
        if wanted.pretrained is not None:
            self.preparation = with_its_statistics(self.preparation, Encoder.open(wanted.pretrained))

    def class_weights(self) -> NDArray[np.float32] | None:
        """(class,) weights against rarity on the training ground; None where the settings ask for none."""
        if self.settings.class_weights == "none":
            return None
        return given.balance(self.ground.class_pixels("train", len(self.legend)))

    def train_dataloader(self) -> DataLoader[Any]:
        """Windows drawn at random on the training ground, each epoch others, the same in every run."""
        wanted = self.settings
        patches = TrainingPatches(
            self.ground.scenes,
            self.ground.masks["train"],
            self.preparation,
            self._sampler.harder(self._difficulty.cells(), wanted.hard) if wanted.hard else self._sampler,
            wanted.seed,
            self.alter or wanted.jitter,
            wanted.augment,
            wanted.coarsen,
            wanted.drop_channels,
        )
        rank, world = (self.trainer.global_rank, self.trainer.world_size) if self.trainer is not None else (0, 1)
        loader = shared.training_loader(
            patches, draws=wanted.draws, batch=wanted.batch, workers=wanted.workers, rank=rank, world=world, group=wanted.group
        )
        self._drawn: Any = loader.dataset  # the patches, or the same in groups
        return loader

    def note_errors(self, epoch: int, batch: int, errors: NDArray[np.floating]) -> None:
        """Let the next epoch's windows follow the errors (process, patch) of one batch, counted from 0 like the epochs."""
        world, count = errors.shape
        if batch == 0:
            self._difficulty.forget()
        for rank in range(world):
            order = EpochSampler(self.settings.draws, rank=rank, world=world)
            order.set_epoch(epoch)
            first = batch * self.settings.batch
            for draw, error in zip(list(order)[first : first + count], errors[rank].tolist(), strict=True):
                scene, window = self._drawn.place(draw)
                self._difficulty.add(scene, window, error)

    def state_dict(self) -> dict[str, Any]:
        """What is hard so far, for a training that is taken up again."""
        return self._difficulty.state() if self.settings.hard else {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from there."""
        if state_dict:
            self._difficulty.restore(state_dict)

    def val_dataloader(self) -> DataLoader[Any]:
        """The validation ground, once."""
        return self.grid("validation")

    def test_dataloader(self) -> DataLoader[Any]:
        """The test ground, once."""
        return self.grid("test")

    def grid(self, part: Part) -> DataLoader[Any]:
        """Batches that cover the labelled ground of a part once."""
        wanted = self.settings
        return shared.grid_loader(self.ground, part, self.preparation, tile=self.tile, batch=wanted.batch, workers=wanted.workers)

    def examples(self, part: Part, count: int) -> list[dict[str, NDArray[Any]]]:
        """Up to `count` patches of a part to look at: those with the most classes, of equals those with the most labels.

        Cut to what they are judged on, without the margin around it.
        """
        margin = self.tile // 8
        patches = shared.grid_patches(self.ground, part, self.preparation, tile=self.tile)
        ranked = []
        for place, (scene, _, core) in enumerate(patches.windows):
            mine = self.ground.masks[part][scene][core.slices]
            known = self.ground.scenes[scene].labels[core.slices][mine]
            known = known[known != UNLABELLED]
            ranked.append((-len(np.unique(known)), -known.size, place))
        kept = (slice(margin, self.tile - margin),) * 2
        return [{name: planes[..., *kept] for name, planes in patches[place].items()} for *_, place in sorted(ranked)[:count]]

    def _divide(self, scenes: Sequence[LabelledScene], block: int, generator: np.random.Generator) -> given.Ground:
        """The scenes' ground, some of it held out."""
        wanted, geoboxes, labels = self.settings, [scene.geobox for scene in scenes], [scene.labels for scene in scenes]
        if wanted.split == "regions":
            assert wanted.regions is not None, "was checked at the beginning"
            return given.Ground.of(scenes, split_regions(geoboxes, wanted.regions, wanted.region_column, guard=wanted.guard))
        if wanted.split == "dates":
            given_scenes = [scene.scene for scene in scenes]
            days = [None if scene.time is None else scene.time.date() for scene in given_scenes]
            names = [scene.name for scene in given_scenes]
            return given.Ground.of(scenes, split_dates(geoboxes, days, names, validation=wanted.validation, test=wanted.test))
        held: dict[str, Any] = {"guard": wanted.guard, "validation": wanted.validation, "test": wanted.test, "generator": generator}
        if wanted.split == "scenes":
            return given.Ground.of(scenes, split_scenes(geoboxes, labels, len(self.legend), **held))
        try:
            return given.Ground.of(scenes, split_blocks(geoboxes, labels, len(self.legend), block=block, **held))
        except LabelError:
            if self.start is None:
                raise
        split = AllLearned(tuple(geoboxes))
        return given.Ground(tuple(scenes), split, {part: tuple(split.mask(at, part) for at in range(len(scenes))) for part in PARTS})
