"""`geoseg embed`: a scene's embeddings as a raster."""

from __future__ import annotations

import rich_click as click


@click.command()
def embed() -> None:
    """A scene's embeddings as a raster."""
    raise click.UsageError("being written")
