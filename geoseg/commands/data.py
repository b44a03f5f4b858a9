"""`geoseg data`: the data sets of the catalogue."""

from __future__ import annotations

import json
from pathlib import Path

import rich_click as click


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
@click.option("--to", type=click.Path(path_type=Path), help="A new folder for it; where geoseg finds it by itself, if not given.")
def fetch_data(name: str, to: Path | None) -> None:
    """Show a data set's licence, fetch it, verify its checksum, and say where it lies."""
    from geoseg.scenes.catalog import Catalog

    catalog = Catalog.open()
    click.echo(catalog[name].terms, err=True)
    click.echo(str(catalog.fetch(name, to)))


@data.command("info")
@click.argument("name")
@click.option("--stac", is_flag=True, help="As a STAC Collection, in JSON.")
def data_info(name: str, stac: bool) -> None:
    """Tell what the catalogue knows of a data set: licence, citation, classes, scenes, where it lies."""
    from geoseg.scenes.catalog import Catalog
    from geoseg.scenes.catalog_stac import stac_collection

    catalog = Catalog.open()
    dataset = catalog[name]
    if stac:
        click.echo(json.dumps(stac_collection(name, dataset), indent=2))
        return
    path = catalog.path(name)
    facts = {
        "title": dataset.title,
        "description": dataset.description,
        "purpose": dataset.purpose,
        "tried": {"read": "files of it were read", "listed": "not tried, only listed"}[dataset.tried],
        "licence": dataset.licence,
        "note": dataset.licence_note,
        "attribution": dataset.attribution,
        "citation": dataset.citation,
        "sensor": dataset.sensor or "",
        "classes": ", ".join(f"{one.code} {one.name}" for one in dataset.classes),
        "labels by": dataset.labels_by,
        "scenes": ", ".join(dataset.scenes),
        "folder": str(path) if path.is_dir() else "not fetched",
    }
    for what, fact in facts.items():
        if fact:
            click.echo(f"{what:12} {' '.join(fact.split())}")


@data.command("verify")
@click.argument("name")
@click.option("--in", "folder", type=click.Path(path_type=Path), help="The data set's folder; where fetching puts it, if not given.")
def verify_data(name: str, folder: Path | None) -> None:
    """Compare the files of a data set with the checksums that the catalogue has."""
    from geoseg.scenes.catalog import Catalog

    checked = Catalog.open().verify(name, folder)
    click.echo(f"{checked} files are as they should be" if checked else "no checksums of single files are known; nothing was compared")
