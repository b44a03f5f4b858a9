"""`geoseg stac`: finished maps as a static catalogue."""

from __future__ import annotations

from pathlib import Path

import rich_click as click


@click.command(epilog="Example: `geoseg stac maps --licence CC-BY-4.0`")
@click.argument("folder", metavar="OUT", type=click.Path(path_type=Path))
@click.option("--title", help="What people read; the folder's name where it is left out.")
@click.option("--description", help="A sentence on what the maps show.")
@click.option("--licence", default="other", help="SPDX identifier of the maps' licence, such as CC-BY-4.0.")
def stac(folder: Path, title: str | None, description: str | None, licence: str) -> None:
    """List the maps in OUT, and in the folders below, in one collection.json: a static STAC catalogue for a web server or a share.

    Each map has its Item beside it already; they stay as they are.
    """
    from geoseg.maps.stac_catalogue import write_catalogue

    click.echo(str(write_catalogue(folder, title=title, description=description, licence=licence)))
