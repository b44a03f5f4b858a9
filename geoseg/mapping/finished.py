"""Whether a map is there already, made of the same files, with the same package and options: then it need not be made again."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from geoseg import __version__
from geoseg.errors import InputError
from geoseg.io.provenance import checksum
from geoseg.io.working import BusyError, WorkingFolder
from geoseg.mapping.plan import MapPlan
from geoseg.mapping.record import all_sources, cloud_model_words, deciding_options, ensemble_members, input_files
from geoseg.mapping.results import result_names


def finished_already(out: Path, plan: MapPlan, opened_with: Mapping[str, Any], *, replace: bool = False) -> bool:
    """Whether `out` holds the map of this plan: all its files, and an Item that tells of the same inputs, package and options.

    Inputs are the same by size and SHA-256, wherever they lie; remote ones, which have neither, by their address. Threads do not
    count, nor do versions of other software than geoseg. What the files hold is not compared: a map that was corrected by hand
    is finished.

    InputError where the map that is there is another one, with what differs; False instead where it may be replaced.
    """
    names = result_names(plan)
    item = _item(out / names["item"])
    if item is None:
        return False
    different = next(_differences(item, plan, opened_with), None) or next(
        (f"{name} is no longer there" for name in names.values() if not (out / name).exists()), None
    )
    if different is None:
        _tidy(out, plan.scene.name)
        return True
    if replace:
        return False
    raise InputError(f"{out} holds another map called {plan.scene.name}: {different}; choose another -o, or replace it with --overwrite")


def _item(path: Path) -> dict[str, Any] | None:
    """The Item of a map of geoseg; None where there is none."""
    try:
        item: dict[str, Any] = json.loads(path.read_bytes())
        run, model = item["properties"]["geoseg:run"], item["properties"]["geoseg:model"]
        known = {"options", "inputs", "opened_with", "source"} <= run["settings"].keys() and "checksum" in model
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return item if known else None


def _differences(item: Mapping[str, Any], plan: MapPlan, opened_with: Mapping[str, Any]) -> Iterator[str]:
    """In what the map of this Item and a map of the plan differ, what is cheap to know first."""
    properties = item["properties"]
    before = properties["geoseg:run"]["settings"]
    model = properties["geoseg:model"]
    members = [plan.package, *ensemble_members(plan)]
    if [one["checksum"] for one in (model, *model.get("ensemble", ()))] != [one.checksum for one in members]:
        yield f"it was made with another model package, {model.get('name')}"
    if (before.get("cloud_model") or "") != cloud_model_words(plan.options.cloud_model):
        yield "its clouds were masked by another --cloud-model"
    if (version := properties.get("processing:software", {}).get("geoseg")) != __version__:
        yield f"it was made by geoseg {version}, this is {__version__}"
    options, defaults = _plain(deciding_options(plan.options)), _plain(deciding_options(type(plan.options)()))
    for name, now in options.items():
        then = before["options"].get(name, defaults[name])
        if then != now:
            yield f"--{name.replace('_', '-')} was {then} and is {now}"
    if before["opened_with"] != _plain({name: value for name, value in opened_with.items() if value is not None}):
        yield "its scene was opened with other words (--bands, --sensor and their like)"
    yield from _other_inputs(before, plan)


def _other_inputs(before: Mapping[str, Any], plan: MapPlan) -> Iterator[str]:
    given, files = before["inputs"], input_files(plan)
    if not given and not files:
        if before["source"] != all_sources(plan):
            yield f"it was made of {before['source']}"
        return
    if len(given) != len(files):
        yield f"it was made of {len(given)} files, and now there are {len(files)}"
        return
    for old, path in zip(given, files, strict=True):
        if path.stat().st_size != old["size"] or checksum(path) != old["sha256"]:
            yield f"{path} is not what it was made of"


def _plain(value: Any) -> Any:
    """As it would come back from JSON."""
    return json.loads(json.dumps(value))


def _tidy(out: Path, name: str) -> None:
    """Remove what a run left that was stopped after the Item had taken its place."""
    if (out / f".{name}.geoseg").exists():
        with suppress(BusyError), WorkingFolder(out, name):
            pass
