"""`geoseg data`: the data sets of the catalogue."""

from __future__ import annotations

import json
from pathlib import Path

import rich_click as click


@click.group()
def data() -> None:
    """The data sets of the catalogue."""


@data.command("list", epilog="Example: `geoseg data list`")
def list_data() -> None:
    """List the data sets: name, licence, and where each is or would be."""
    from geoseg.scenes.catalog import Catalog

    catalog = Catalog.open()
    for name, dataset in catalog.datasets.items():
        path = catalog.path(name)
        click.echo(f"{name:24} {dataset.licence:12} {path if path.is_dir() else 'not fetched'}  {' '.join(dataset.description.split())}")


@data.command("fetch", epilog="Example: `geoseg data fetch sen1floods11`")
@click.argument("name")
@click.option("--to", type=click.Path(path_type=Path), help="A new folder for it; where geoseg finds it by itself, if not given.")
def fetch_data(name: str, to: Path | None) -> None:
    """Show a data set's licence, fetch it, verify its checksum, and say where it lies.

    A download that was broken off goes on where it stopped when the command is run again.
    """
    from geoseg.console import progress_bar
    from geoseg.scenes.catalog import Catalog

    catalog = Catalog.open()
    click.echo(catalog[name].terms, err=True)
    with progress_bar(f"fetching {name}", as_json=False) as progress:
        folder = catalog.fetch(name, to, progress=progress)
    click.echo(str(folder))


@data.command("info", epilog="Example: `geoseg data info sen1floods11 --stac`")
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
        "tried": {"read": "files of it were read", "layout": "small files in its layout were read", "listed": "not tried, only listed"}[
            dataset.tried
        ],
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


@data.command("verify", epilog="Example: `geoseg data verify sen1floods11`")
@click.argument("name")
@click.option("--in", "folder", type=click.Path(path_type=Path), help="The data set's folder; where fetching puts it, if not given.")
def verify_data(name: str, folder: Path | None) -> None:
    """Compare the files of a data set with the checksums that the catalogue has."""
    from geoseg.scenes.catalog import Catalog

    checked = Catalog.open().verify(name, folder)
    click.echo(f"{checked} files are as they should be" if checked else "no checksums of single files are known; nothing was compared")


_IN = click.option("--in", "folder", type=click.Path(path_type=Path), help="The data set's folder; where fetching puts it, if not given.")
_SPLIT = click.option("--split", type=click.Choice(["train", "val", "test"]), help="Only this one.")


@data.command("pairs", epilog="Example: `geoseg data pairs sen1floods11`")
@click.argument("name")
@_IN
@_SPLIT
def data_pairs(name: str, folder: Path | None, split: str | None) -> None:
    """List the images of a data set with their labels, one JSON object a line: name, split, image, labels."""
    from geoseg.scenes.catalog import Catalog

    for pair in Catalog.open().pairs(name, folder):
        if split in (None, pair.split):
            labels = None if pair.labels is None else str(pair.labels)
            click.echo(json.dumps({"name": pair.name, "split": pair.split, "image": str(pair.image), "labels": labels}, ensure_ascii=False))


@data.command("preview", epilog="Example: `geoseg data preview sen1floods11 -o page.png`")
@click.argument("name")
@_IN
@_SPLIT
@click.option("-o", "--out", required=True, type=click.Path(path_type=Path), help="The picture, a .png.")
@click.option("--count", type=click.IntRange(1, 20), default=6, help="Images that are shown.")
def preview_data(name: str, folder: Path | None, split: str | None, out: Path, count: int) -> None:
    """Draw a few images of a data set beside their labels, in the legend's colours."""
    from geoseg.data.folder_samples import preview
    from geoseg.errors import InputError
    from geoseg.io.atomic import atomic
    from geoseg.scenes.catalog import Catalog

    catalog = Catalog.open()
    dataset, pairs = catalog[name], catalog.pairs(name, folder)
    if dataset.legend is None or dataset.layout is None:
        raise InputError(f"the catalogue knows no classes of {name!r}, so that there are no colours to draw labels in")
    chosen = [pair for pair in pairs if split in (None, pair.split)]
    picture = preview(chosen, dataset.legend, dataset.bands, palette=dataset.layout.palette, count=count)
    with atomic(out) as part:
        part.write_bytes(picture)
    click.echo(str(out))
