"""`geoseg learn`: a recipe and its settings, scenes and labels included, from one file."""

from __future__ import annotations

from typing import Any

import rich_click as click

from geoseg.commands._learning import RECIPES, Ground, assignments, learn_with
from geoseg.commands._words import SCENE_WORDS
from geoseg.errors import InputError

_OURS = {"scenes": list, "labels": list, "out": str, "opening": dict, "series": bool, "dates": str}


@click.command(
    epilog="Recipes: "
    + "; ".join(f"**{name}**, {recipe.does}" for name, recipe in RECIPES.items())
    + ".\n\nExample: `geoseg learn supervised settings.yaml epochs=40`",
)
@click.argument("recipe", type=click.Choice(list(RECIPES)))
@click.argument("words", metavar="[SETTINGS.yaml] [KEY=VALUE]...", nargs=-1)
@click.option("--resume", is_flag=True, help="Go on with a training that was stopped.")
def learn(recipe: str, words: tuple[str, ...], resume: bool) -> None:
    """Learn a model package by a recipe, from a file of settings.

    The file holds the recipe's settings and, beside them, `scenes`, `labels` (one for each scene, or one), `out` (the new package) and
    `opening` (what `geoseg predict` takes as options: sensor, bands, scale …). Words KEY=VALUE go before the file.
    """
    from geoseg.settings import nearest, read_yaml

    files = [word for word in words if "=" not in word]
    if len(files) > 1:
        raise InputError(f"{', '.join(files)}: one file of settings is taken; write what else there is as KEY=VALUE")
    settings = read_yaml(files[0]) if files else {}
    if not isinstance(settings, dict):
        raise InputError(f"{files[0]} holds no settings; write them as KEY: VALUE, one in a line")
    settings = settings | assignments([word for word in words if "=" in word])
    said_in = files[0] if files else "KEY=VALUE"
    mine = {name: _taken(settings, name, kind, said_in) for name, kind in _OURS.items()}
    if missing := [name for name in ("scenes", "labels", "out") if not mine[name] and (name != "labels" or RECIPES[recipe].labelled)]:
        raise InputError(f"{said_in} says no {', no '.join(missing)}; add it, such as {missing[0]}={_SUCH_AS[missing[0]]}")
    if unknown := [name for name in mine["opening"] or {} if name not in SCENE_WORDS]:
        raise InputError(f"{said_in}: opening has no {unknown[0]!r}; {nearest(unknown[0], SCENE_WORDS)}")
    ground = Ground(mine["scenes"], mine["labels"] or [], mine["opening"] or {}, bool(mine["series"]), mine["dates"])
    learn_with(recipe, settings, said_in, ground, mine["out"], resume=resume)


_SUCH_AS = {"scenes": "'[scene.tif]'", "labels": "'[polygons.gpkg]'", "out": "my_model"}


def _taken(settings: dict[str, Any], name: str, kind: type, said_in: str) -> Any:
    """The value of a key that is not the recipe's, which is taken out; None where there is none."""
    value = settings.pop(name, None)
    if kind is list and isinstance(value, str):
        return [value]
    if value is not None and not isinstance(value, kind):
        raise InputError(f"{said_in}: {name} is {value!r}; expected a {_NAMED[kind]}")
    return value


_NAMED: dict[type, str] = {list: "list of files", str: "text", dict: "mapping of words to values", bool: "true or false"}
