"""What a linear probe reads off Galileo's and Presto's features on a real scene, beside what it reads off the bands themselves.

    nice -n 15 python benchmarks/galileo_probe.py DATA

DATA holds `s2_wales` (Sentinel-2 reflectance of the coast of Wales, ten bands, 27 May 2021, and the land-cover map of a classifier) and
`weights` (the published files of Galileo nano and Presto). Blocks of 64 x 64 pixels are drawn once and go through each network one by one.
For each seed two in three of them are learned from, with labels for few pixels, and the others are judged on, every pixel of them. The
probe is multinomial logistic regression on standardised numbers; features of a patch hold for all of its pixels. The same networks with
random weights say what their shape alone is worth.

The truth is the map of a classifier of single pixels: agreement with it, never accuracy, and easier from single pixels than from patches.
So the same is done once more with patches of 8 x 8 pixels as the ground, each of the class that most of its pixels have.
Writes docs/measured/galileo_probe.md.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import torch
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from geoseg.backbones import galileo, presto
from geoseg.confusion import Confusion
from geoseg.legend import Legend
from geoseg.models.states import read_state

PAGE = Path(__file__).resolve().parents[1] / "docs" / "measured" / "galileo_probe.md"
BANDS = ("blue", "green", "red", "rededge071", "rededge075", "rededge078", "nir", "nir08", "swir16", "swir22")
CLASSES = Legend.from_names(["forest", "grass", "urban", "water"])
EDGE, BLOCKS, LEARNED = 64, 60, 40
PATCH = 8
SHARES = (0.01, 0.1)
"""Of the pixels, or patches, that are learned from, those that have a label."""
MONTH = 5
SEEDS = (0, 1, 2)
_FORGOTTEN = 12345
"""Seed of the networks that have learned nothing."""

Blocks = NDArray[np.float32]
"""(block, row, col, number)."""


def read_blocks(folder: Path) -> tuple[Blocks, NDArray[np.int64]]:
    """Reflectance of the blocks and the classes (block, row, col) of their pixels, of blocks that are labelled all over."""
    with rasterio.open(folder / "s2_20210527.tif") as file:
        bands = file.read().astype(np.float32) / 1000
    with rasterio.open(folder / "landcover.tif") as file:
        classes = file.read(1).astype(np.int64) - 1
    rows, cols = (edge // EDGE for edge in classes.shape)
    cut = classes[: rows * EDGE, : cols * EDGE].reshape(rows, EDGE, cols, EDGE).swapaxes(1, 2).reshape(-1, EDGE, EDGE)
    image = (
        bands[:, : rows * EDGE, : cols * EDGE]
        .reshape(-1, rows, EDGE, cols, EDGE)
        .transpose(1, 3, 2, 4, 0)
        .reshape(-1, EDGE, EDGE, len(bands))
    )
    whole = np.flatnonzero((cut >= 0).all(axis=(1, 2)) & (image > 0).all(axis=(1, 2, 3)))
    drawn = np.random.default_rng(0).choice(whole, BLOCKS, replace=False)
    return image[drawn], cut[drawn]


def features(network: Any, statistics_of: Any, blocks: Blocks) -> tuple[Blocks, float]:
    """The last level of each block's features, patch by patch, and CPU seconds for a million pixels."""
    mean, std = np.array([statistics_of[role] for role in BANDS], np.float32).T
    made, spent = [], time.process_time()
    with torch.inference_mode():
        for block in blocks:
            level = network.eval()(torch.from_numpy(((block - mean) / std).transpose(2, 0, 1).copy())[None])[-1][0]
            made.append(level.numpy().transpose(1, 2, 0))
    seconds = (time.process_time() - spent) / (blocks[..., 0].size / 1e6)
    return np.stack(made), seconds


def spread(numbers: Blocks) -> Blocks:
    """Each patch's numbers at all of its pixels."""
    step = EDGE // numbers.shape[1]
    return numbers.repeat(step, axis=1).repeat(step, axis=2)


def gathered(pixels: NDArray[Any]) -> NDArray[Any]:
    """(block, row, col of patches, pixel of 64, …) of (block, row, col, …)."""
    patches = pixels.reshape(len(pixels), EDGE // PATCH, PATCH, EDGE // PATCH, PATCH, *pixels.shape[3:]).swapaxes(2, 3)
    return patches.reshape(*patches.shape[:3], PATCH * PATCH, *pixels.shape[3:])


def judge(numbers: Blocks, classes: NDArray[np.int64], share: float, seed: int) -> Confusion:
    """Truth against the probe's guess on all pixels (or patches) of the blocks that were not learned from."""
    generator = np.random.default_rng(seed)
    order = generator.permutation(len(numbers))
    learned, judged = order[:LEARNED], order[LEARNED:]
    x, y = numbers[learned].reshape(-1, numbers.shape[-1]), classes[learned].ravel()
    few = generator.choice(len(y), round(share * len(y)), replace=False)
    probe = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000)).fit(x[few], y[few])
    guessed = probe.predict(numbers[judged].reshape(-1, numbers.shape[-1]))
    return Confusion.count(classes[judged].ravel(), guessed, CLASSES)


def networks(weights: Path) -> dict[str, Callable[[], tuple[Any, Any]]]:
    """Name → what makes a network, and the statistics of its input."""

    def nano(patch: int, *, learned: bool) -> tuple[Any, Any]:
        torch.manual_seed(_FORGOTTEN)
        network = galileo.build(BANDS, size="nano", patch=patch, month=MONTH)
        if learned:
            galileo.load(network, read_state(weights / "galileo_nano_encoder.pt"), "galileo-nano")
        return network, galileo.STATISTICS

    def pixels(*, learned: bool) -> tuple[Any, Any]:
        torch.manual_seed(_FORGOTTEN)
        network = presto.build(BANDS, month=MONTH)
        if learned:
            presto.load(network, read_state(weights / "presto_default_model.pt"), "presto")
        return network, presto.STATISTICS

    made: dict[str, Callable[[], tuple[Any, Any]]] = {}
    for learned, said in ((True, ""), (False, ", random weights")):
        for patch in (8, 4):
            made[f"galileo-nano, patches of {patch}{said}"] = partial(nano, patch, learned=learned)
        made[f"presto{said}"] = partial(pixels, learned=learned)
    return made


def row(name: str, numbers: Blocks, classes: NDArray[np.int64], shares: Sequence[float], *more: str) -> str:
    """A line of a table: for each share of labels the mean over the seeds (least to greatest); then the cells `more`."""
    cells = [name, str(numbers.shape[-1])]
    for share in shares:
        found = [judge(numbers, classes, share, seed).mean_iou for seed in SEEDS]
        cells.append(f"{statistics.mean(found):.3f} ({min(found):.3f} to {max(found):.3f})")
    line = "| " + " | ".join([*cells, *more]) + " |"
    print(line, flush=True)
    return line


def main() -> None:
    """Make features, probe them, write the table."""
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("data", type=Path)
    data = words.parse_args().data
    torch.set_num_threads(1)
    began = time.process_time()
    bands, classes = read_blocks(data / "s2_wales")
    patches = gathered(bands)
    most = np.stack([(gathered(classes) == at).sum(axis=-1) for at in range(len(CLASSES.names))]).argmax(axis=0)
    mean, both = patches.mean(axis=3), np.concatenate([patches.mean(axis=3), patches.std(axis=3)], axis=-1)
    by_pixel = [
        row("bands", bands, classes, SHARES[:1], ""),
        row("bands, and their mean over 8 x 8 pixels", np.concatenate([bands, spread(mean)], axis=-1), classes, SHARES[:1], ""),
    ]
    by_patch = [row("mean of the bands", mean, most, SHARES), row("mean and deviation of the bands", both, most, SHARES)]
    for name, make in networks(data / "weights").items():
        made, seconds = features(*make(), bands)
        by_pixel.append(row(name, spread(made), classes, SHARES[:1], f"{seconds:.0f}"))
        if made.shape[1] == EDGE // PATCH:
            beside = np.concatenate([bands, spread(made)], axis=-1)
            by_pixel.append(row(f"bands, and {name}", beside, classes, SHARES[:1], ""))
            by_patch.append(row(name, made, most, SHARES))
            by_patch.append(row(f"mean of the bands, and {name}", np.concatenate([mean, made], axis=-1), most, SHARES))
    shares = " | ".join(f"{share:.0%} of them labelled" for share in SHARES)
    text = (
        "# Linear probes on Galileo's and Presto's features\n\n"
        f"{(__doc__ or '').splitlines()[0]}\n"
        "Made by `benchmarks/galileo_probe.py`, which says how.\n\n"
        f"Sentinel-2, Aberystwyth, {BLOCKS} blocks of {EDGE} x {EDGE} pixels, of which {LEARNED} are learned from. Mean IoU on the others, "
        f"mean over {len(SEEDS)} seeds (least to greatest). The truth is a classifier's map: agreement, not accuracy.\n\n"
        f"| what the probe sees of a pixel | numbers | {SHARES[0]:.0%} of them labelled | CPU s per Mpx |\n| --- | ---: | --- | ---: |\n"
        + "\n".join(by_pixel)
        + f"\n\n| what it sees of 8 x 8 pixels | numbers | {shares} |\n| --- | ---: | --- | --- |\n"
        + "\n".join(by_patch)
        + f"\n\n{time.process_time() - began:.0f} s of CPU in all, one thread, {platform.processor() or platform.machine()}, "
        f"torch {torch.__version__.partition('+')[0]}.\n"
    )
    PAGE.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
