"""`geoseg models`: what a model package is, and published networks as packages."""

from __future__ import annotations

from pathlib import Path

import rich_click as click

PUBLISHED = ("csmask-l1c", "csmask-l2a")
"""Networks of others that `geoseg models fetch` knows."""


@click.group()
def models() -> None:
    """Model packages: what one is, and published networks as packages."""


@models.command("info")
@click.argument("package")
def model_info(package: str) -> None:
    """Print the card of a model package: bands, classes, licence, what it was trained and tested on."""
    from geoseg.models.package import CARD, ModelPackage

    click.echo(ModelPackage.open(package).read(CARD).decode())


@models.command("fetch")
@click.argument("name", type=click.Choice(PUBLISHED))
@click.option("-o", "--out", required=True, type=click.Path(path_type=Path), help="The new model package: a folder, or a .zip.")
def fetch_model(name: str, out: Path) -> None:
    """Fetch a published network and write it as a model package (needs the extra `train`).

    csmask-l1c and csmask-l2a: cloud and cloud shadow for --cloud-model, from six bands of Sentinel-2 or Landsat at the top of the
    atmosphere or at the surface (DLR's ukis-csmask, Apache-2.0, 170 MB once).
    """
    from geoseg.models.csmask import package_csmask
    from geoseg.scenes.catalog import Catalog

    made = package_csmask(Catalog.open().fetch("ukis_csmask"), out, level="l1c" if name.endswith("l1c") else "l2a")
    click.echo(f"{made.title}: {made.path}; use it with: geoseg predict SCENE --cloud-model {made.path} -o OUT")
