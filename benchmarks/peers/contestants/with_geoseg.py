"""geoseg as its users run it: `geoseg predict`, in this process so that what it imports can be told from what it does."""

import importlib
import shutil
import sys
import tempfile
from pathlib import Path

import rasterio
from contest import Contest

from geoseg import ModelPackage
from geoseg.cli import main
from geoseg.mapping.tiles import TilePlan, plan_tiles

IMPORTED = {"onnx": "onnxruntime", "openvino": "openvino", "torch": "geoseg.models.segmenter"}
"""Runtime → what it imports beside geoseg's own modules."""


def words(contest: Contest, folder: str) -> list[str]:
    """The command line; tile and overlap come from the model package."""
    command = ["predict", contest.scene, "--sensor", "generic", "--model", str(contest.weights), "-o", folder]
    command += ["--no-picture", "--no-polygons", "--json", "--runtime", contest.runtime, "--threads", str(contest.threads)]
    return command if contest.precision == "fp32" else [*command, "--precision", contest.precision]


def planned_tiles(contest: Contest) -> TilePlan:
    """The tiles of the map."""
    package = ModelPackage.open(contest.weights)
    with rasterio.open(contest.scene) as scene:
        return plan_tiles(scene.shape, tile=package.tile, overlap=package.overlap, stride=package.stride)


contest = Contest()
importlib.import_module("geoseg.mapping.make_map")
importlib.import_module(IMPORTED[contest.runtime])
contest.start()
with tempfile.TemporaryDirectory(dir=Path(contest.out).parent) as folder:
    sys.argv = ["geoseg", *words(contest, folder)]
    try:
        main()
    except SystemExit as end:
        if end.code:
            raise
    (classes,) = Path(folder).glob("*_classes.tif")
    shutil.move(classes, contest.out)
contest.finish(windows=len(planned_tiles(contest)))
