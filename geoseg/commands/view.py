"""`geoseg view`: the local web page of finished maps and scenes."""

from __future__ import annotations

import rich_click as click


@click.command(epilog="Example: `geoseg view map`, or `geoseg view map scene.tif` to see it in all its colours")
@click.argument("sources", metavar="OUT_OR_SCENE...", nargs=-1, required=True)
@click.option("--sensor", help="Which sensor a scene is of, such as sentinel-2-l2a; `geoseg sensors` lists them.")
@click.option("--bands", help="What a scene's bands are: red,green,blue in the order of the file (- skips one), or nir=4,red=1.")
@click.option("--port", type=click.IntRange(0, 65535), default=0, show_default="one that is free", help="Port of the page.")
@click.option("--host", default="127.0.0.1", help="Where to serve; beyond this machine the page's address has a random word.")
@click.option("--browser/--no-browser", default=True, help="Open the page, or only say where it is.")
def view(sources: tuple[str, ...], sensor: str | None, bands: str | None, port: int, host: str, browser: bool) -> None:
    """Look at maps and scenes in the browser: imagery, classes, scores, polygons, areas; what is under the pointer; two side by side.

    OUT_OR_SCENE is a folder that `geoseg predict` wrote, any class GeoTIFF with a legend, or a scene as `geoseg predict` takes it. All
    that is named is shown on one page, which needs no network. Ctrl-C ends it.
    """
    from importlib.util import find_spec

    from geoseg.commands._words import opening_words
    from geoseg.errors import require
    from geoseg.view.serve import serve
    from geoseg.view.shown import open_shown

    for module in ("fastapi", "rio_tiler", "uvicorn"):
        if find_spec(module) is None:  # to load them takes seconds, in which the browser can start
            require(module, extra="web")
    shown = open_shown(sources, opening_words({"sensor": sensor, "bands": bands}))
    serve(shown, host=host, port=port, browser=browser, say=lambda address: click.echo(f"{address}\nCtrl-C ends it."))
