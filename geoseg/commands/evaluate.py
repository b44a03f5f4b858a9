"""`geoseg evaluate`: how well maps agree with labels."""

from __future__ import annotations

from pathlib import Path

import rich_click as click


@click.command()
@click.argument("maps", metavar="MAP...", nargs=-1, required=True)
@click.option("--labels", multiple=True, required=True, help="Polygons, lines, points or a raster: one for all maps, or one for each.")
@click.option("-o", "--out", required=True, type=click.Path(path_type=Path), help="Folder for the report.")
@click.option("--class-column", help="The column of the labels that holds the class; a usual one if none is named.")
@click.option("--regions", help="Polygons that are counted apart.")
@click.option("--region-column", help="The column that names them.")
@click.option("--boundary-m", type=float, help="Compare edges too, within so many metres; two pixels are usual.")
@click.option("--overwrite", is_flag=True, help="Replace a report that is there already.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line on standard output.")
def evaluate(
    maps: tuple[str, ...],
    labels: tuple[str, ...],
    out: Path,
    class_column: str | None,
    regions: str | None,
    region_column: str | None,
    boundary_m: float | None,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Compare maps with labels and write a report: IoU, F1, precision, recall and kappa, pooled over all pixels, and per map and region.

    MAP is a folder that `geoseg predict` wrote, or any class GeoTIFF with a legend. Ground that the model's training held out is counted
    apart, and where there are scores, the report says whether they can be taken for probabilities.
    """
    from geoseg.console import print_evaluation, progress_bar
    from geoseg.evaluation.evaluate import evaluate as compare
    from geoseg.evaluation.report import NAMES, write_report
    from geoseg.io.staging import check_free

    check_free(out, NAMES.values(), overwrite=overwrite)
    with progress_bar("evaluating", as_json=as_json) as progress:
        apart = {"regions": regions, "region_column": region_column}
        made = compare(maps, labels, class_column=class_column, **apart, boundary_m=boundary_m, progress=progress)
    print_evaluation(made, write_report(out, made, overwrite=overwrite), as_json=as_json)
