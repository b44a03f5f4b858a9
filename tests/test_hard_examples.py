"""Windows where a network errs are drawn more often, by a law that is stated, and the same when a training is taken up again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from labelled_ground import QUICK, write_ground

from geoseg.data.difficulty import FORGETTING, Difficulty
from geoseg.data.samplers import TileSampler
from geoseg.data.windows import Window

LABELS = [np.zeros((128, 128), np.int16), np.zeros((64, 128), np.int16)]
GROUND = [np.ones(plane.shape, bool) for plane in LABELS]


def test_a_window_tells_of_each_cell_by_how_much_of_it_it_held() -> None:
    difficulty = Difficulty([(128, 128)])
    difficulty.add(0, Window(0, 0, 64, 64), 0.0)
    difficulty.add(0, Window(32, 0, 64, 64), 0.9)
    first = 0.9 * 32 / (64 + 32)
    usual = 0.9 / 2
    assert difficulty.cells()[0] == pytest.approx(np.array([[first, usual], [0.9, usual]]))


def test_windows_that_reach_beyond_a_scene_tell_of_what_lies_on_it() -> None:
    difficulty = Difficulty([(100, 70)])
    difficulty.add(0, Window(-20, 40, 64, 64), 0.5)
    assert (difficulty.cells()[0] == 0.5).all()
    assert difficulty._weights[0].tolist() == [[44 * 24, 44 * 40], [0, 0]]


def test_what_was_hard_is_forgotten_by_half_in_each_epoch() -> None:
    difficulty = Difficulty([(64, 64)])
    difficulty.add(0, Window(0, 0, 64, 64), 1.0)
    difficulty.forget()
    difficulty.add(0, Window(0, 0, 64, 64), 0.0)
    assert difficulty.cells()[0][0, 0] == pytest.approx(FORGETTING / (FORGETTING + 1))


def test_its_state_is_plain_and_goes_on_elsewhere() -> None:
    one, other = Difficulty([(100, 70), (64, 64)]), Difficulty([(100, 70), (64, 64)])
    one.add(1, Window(0, 0, 64, 64), 0.25)
    other.restore(one.state())
    assert all(np.array_equal(mine, theirs) for mine, theirs in zip(one.cells(), other.cells(), strict=True))
    with pytest.raises(ValueError, match="argument"):
        Difficulty([(100, 70)]).restore(one.state())


@pytest.mark.parametrize("share", [0.0, 0.6])
def test_that_share_of_windows_lies_around_labels_of_hard_cells(share: float) -> None:
    cells = [np.zeros((2, 2)), np.array([[0.0, 0.3]])]
    sampler = TileSampler(LABELS, GROUND, tile=16, rare=0.5).harder(cells, share)
    generator = np.random.default_rng(0)
    drawn = [sampler.draw(generator) for _ in range(4000)]
    of_second = np.mean([scene == 1 for scene, _ in drawn])
    assert of_second == pytest.approx(share + (1 - share) / 3, abs=0.03), "without, scenes are drawn by their area"
    touching = np.mean([scene == 1 and window.col + 16 > 64 for scene, window in drawn])
    assert touching == pytest.approx(share + (1 - share) / 3 * 64 / 113, abs=0.04)


def test_nothing_hard_leaves_the_law_as_it_is() -> None:
    sampler = TileSampler(LABELS, GROUND, tile=16, rare=0.5)
    assert sampler.harder([np.zeros((2, 2)), np.zeros((1, 2))], 0.5) is sampler


# ---------------------------------------------------------------- in a training

torch = pytest.importorskip("torch")
lightning = pytest.importorskip("lightning")


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_ground(tmp_path_factory.mktemp("ground"))


def data_of(ground: Path, **changes: Any) -> Any:
    from geoseg.recipes.datamodule import ScenesDataModule

    opening = {"sensor": "sentinel-2-l1c", "bands": ["red", "nir"]}
    return ScenesDataModule([ground / "scene.tif"], [ground / "labels.tif"], QUICK | {"hard": 0.5} | changes, opening=opening)


def test_what_is_missed_is_a_mean_over_labelled_pixels() -> None:
    from geoseg.recipes.hard_examples import missed

    logits = torch.zeros(2, 4, 1, 2)
    logits[0, 3, 0, 0] = 100.0
    labels = torch.tensor([[[3, 1]], [[-1, -1]]])
    assert missed(logits, labels).tolist() == pytest.approx([(0 + 0.75) / 2, 0.0])


@pytest.mark.parametrize("group", [1, 4])
def test_a_draw_says_the_place_that_it_reads(ground: Path, group: int) -> None:
    data = data_of(ground, hold_mb=0, group=group, jitter={})
    data.setup()
    patches = data.train_dataloader().dataset
    for draw in range(6):
        _, window = patches.place(draw)
        labels = np.where(window.cut(data.ground.masks["train"][0], False), data.ground.scenes[0].cut_labels(window), -1)
        turned = [np.rot90(side, turns) for side in (labels, labels.T) for turns in range(4)]
        assert any(np.array_equal(patches[draw]["labels"], one) for one in turned)
        assert not any(np.array_equal(patches[draw + 1]["labels"], one) for one in turned)


def test_errors_of_a_batch_reach_the_next_epochs_windows(ground: Path) -> None:
    data = data_of(ground)
    data.setup()
    before = data.train_dataloader().dataset.sampler
    data.note_errors(0, 0, np.array([[0.0, 1.0]]))
    after = data.train_dataloader().dataset.sampler
    assert not np.allclose(before._chances[0], after._chances[0])
    assert sum(after._chances[0].ravel()) == pytest.approx(1)


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize(("reload", "data", "message"), [(0, True, "reload_dataloaders_every_n_epochs=1"), (1, False, "ScenesDataModule")])
def test_trainers_that_would_not_draw_anew_are_refused(ground: Path, tmp_path: Path, reload: int, data: bool, message: str) -> None:
    from geoseg.errors import InputError
    from geoseg.recipes.modules import SupervisedSegmentation

    module = SupervisedSegmentation(["land", "water"], ["red", "nir"], QUICK | {"hard": 0.5})
    trainer = lightning.Trainer(
        max_epochs=1,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        reload_dataloaders_every_n_epochs=reload,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=tmp_path,
        num_sanity_val_steps=0,
    )
    given = data_of(ground)
    if data:
        fit = {"datamodule": given}
    else:
        given.setup()
        fit = {"train_dataloaders": given.train_dataloader()}
    with pytest.raises(InputError, match=message):
        trainer.fit(module, **fit)
