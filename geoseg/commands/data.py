"""`geoseg data`: the data sets of the catalogue."""

from __future__ import annotations

from typing import TYPE_CHECKING

import rich_click as click

if TYPE_CHECKING:
    pass


@click.group()
def data() -> None:
    """The data sets of the catalogue."""


@data.command("list")
def list_data() -> None:
    """List the data sets: name, licence, and where each is or would be."""
    from geoseg.scenes.catalog import Catalog

    catalog = Catalog.open()
    for name, dataset in catalog.datasets.items():
        path = catalog.path(name)
        click.echo(f"{name:24} {dataset.licence:12} {path if path.is_dir() else 'not fetched'}  {' '.join(dataset.description.split())}")


@data.command("fetch")
@click.argument("name")
def fetch_data(name: str) -> None:
    """Fetch a data set, verify its checksum, and say where it lies."""
    from geoseg.scenes.catalog import Catalog

    click.echo(str(Catalog.open().fetch(name)))
