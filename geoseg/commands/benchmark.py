"""`geoseg benchmark`: what ways of learning are worth where they have not learned."""

from __future__ import annotations

import json
from pathlib import Path

import rich_click as click

from geoseg.errors import InputError

SOME_FAILED = 3


@click.group()
def benchmark() -> None:
    """Measure ways of learning on tables of data."""


@benchmark.command("dg", epilog="Example: `geoseg benchmark dg gaps.yaml -o gaps`")
@click.argument("table", type=click.Path(path_type=Path))
@click.option("-o", "--out", required=True, type=click.Path(path_type=Path), help="Folder for models, figures and the table.")
@click.option("--only", multiple=True, metavar="NAME", help="Only this row; several times for several.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on standard output.")
def domain_generalisation(table: Path, out: Path, only: tuple[str, ...], as_json: bool) -> int:
    """Domain generalisation: learn on one place or sensor, be judged on another, for each row of a TABLE.

    The YAML file names `places` (scenes, labels, opening: what the scenes' numbers mean) and `pairs` of them (name, source, target, gap),
    a `recipe` with its `settings`, and `seeds`. Each source is learned once for each seed; rows whose files are not there say so.
    Run again with the same folder, it goes on where it stopped. Exit code 3 where some rows failed.
    """
    from geoseg.commands._learning import RECIPES
    from geoseg.errors import require
    from geoseg.evaluation.generalisation import NAMES, generalise, markdown
    from geoseg.evaluation.generalisation_table import read_table
    from geoseg.settings import nearest

    asked = read_table(table)
    names = [pair.name for pair in asked.pairs]
    if unknown := [name for name in only if name not in names]:
        raise InputError(f"{table} has no row {unknown[0]!r}; {nearest(unknown[0], names)}")
    if only:
        asked = asked.model_copy(update={"pairs": tuple(pair for pair in asked.pairs if pair.name in only)})
    recipe = RECIPES[asked.recipe]
    for needed in recipe.needs:
        require(needed, extra=recipe.extra)
    made = generalise(asked, out, progress=lambda said: click.echo(said, err=True))
    files = {what: str(out / name) for what, name in NAMES.items()}
    if as_json:
        click.echo(json.dumps({"event": "result", "files": files, "summary": made.facts()}))
    else:
        for line in [*markdown(made), *(f"{what}: {path}" for what, path in files.items())]:
            click.echo(line)
    return SOME_FAILED if any(row.state == "failed" for row in made.rows) else 0
