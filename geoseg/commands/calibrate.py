"""`geoseg calibrate`: a model package whose scores can be taken for probabilities."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import rich_click as click

from geoseg.commands._words import open_source, scene_options


@click.command(epilog="Example: `geoseg calibrate my_model scene.tif --labels truth.gpkg -o calibrated`")
@click.argument("package", metavar="PACKAGE")
@click.argument("sources", metavar="SCENE...", nargs=-1, required=True)
@click.option("--labels", multiple=True, required=True, help="Polygons, lines, points or a raster: one for all scenes, or one for each.")
@click.option("-o", "--out", required=True, type=click.Path(path_type=Path), help="The new model package: a folder, or a .zip.")
@click.option("--class-column", help="The column of the labels that holds the class; a usual one if none is named.")
@scene_options
def calibrate(package: str, sources: tuple[str, ...], labels: tuple[str, ...], out: Path, class_column: str | None, **opening: Any) -> None:
    """Write PACKAGE once more so that its scores are frequencies: of what it maps with a score of 0.8, four fifths are right.

    One number is fitted to labelled ground (temperature scaling), the validation blocks of the package's training where these lie in the
    scenes. Class maps stay the same. It holds for ground like this: another region or season may need another number.
    """
    from geoseg.evaluation.calibrate import calibrate as fit
    from geoseg.models.package import ModelPackage

    scenes = [open_source(source, opening) for source in sources]
    made = fit(ModelPackage.open(package), scenes, labels, out, class_column=class_column)
    click.echo(f"temperature {made.temperature:.3g}, fitted on {made.fitted_on}")
    click.echo(f"expected calibration error {made.before:.4f} before, {made.after:.4f} after, on {made.judged_on}")
    click.echo(f"the calibrated package is in {made.package.path}")
