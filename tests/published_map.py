"""From a published file to a map of a real scene, as the command line does it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import rasterio
from click.testing import CliRunner
from rasterio.windows import Window

from geoseg.cli import cli

BANDS = "blue,green,red,rededge071,rededge075,rededge078,nir,nir08,swir16,swir22"
_FEW = ("freeze=true", "learning_rate=0.003", "ema=null", "compare=none", "pictures=0")
"""Settings with which a decoder behind untouched features learns something in a few dozen steps."""


def map_from(network: str, weights: Path, wales: Path, folder: Path, edge: int, settings: Sequence[str]) -> tuple[float, float]:
    """Agreement of a map of `edge` x `edge` pixels of `wales` with its land cover, and the share of the commonest class there.

    The published `network` is fetched from the file `weights`, trained behind with `settings` on that ground, and run by onnxruntime.
    """
    scene, labels, encoder, package = (folder / name for name in ("wales.tif", "labels.tif", "ENCODER", "PACKAGE"))
    for name, out in (("s2_20210527.tif", scene), ("landcover.tif", labels)):
        with rasterio.open(wales / name) as file:
            window = Window(300, 300, edge, edge)
            profile = {**file.profile, "width": edge, "height": edge, "transform": file.window_transform(window), "driver": "GTiff"}
            with rasterio.open(out, "w", **profile) as part:
                part.write(file.read(window=window))
    meant = ["--sensor", "sentinel-2-l2a", "--bands", BANDS, "--scale", "0.001"]
    chosen = [f"-s{setting}" for setting in (f"pretrained={encoder}", *_FEW, *settings)]
    for words in (
        ["models", "fetch", network, "--file", str(weights), "-o", str(encoder)],
        ["train", str(scene), "--labels", str(labels), *meant, *chosen, "-o", str(package)],
        ["predict", str(scene), *meant, "--model", str(package), "--runtime", "onnx", "-o", str(folder / "map")],
    ):
        ran = CliRunner().invoke(cli, words)
        assert ran.exit_code == 0, ran.output
    with rasterio.open(folder / "map" / "wales_classes.tif") as mapped, rasterio.open(labels) as drawn:
        guess, truth = mapped.read(1), drawn.read(1)
    known = (truth > 0) & (guess > 0)
    return float((guess == truth)[known].mean()), float(np.bincount(truth[known]).max() / known.sum())
