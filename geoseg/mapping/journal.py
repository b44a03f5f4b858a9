"""What of a map is finished on disk: its plan, and a line for every strip whose parts are there for good."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from geoseg.errors import InputError
from geoseg.io.atomic import output_error
from geoseg.io.part_files import folder_to_disk, parts_whole, to_disk
from geoseg.io.working import WorkingFolder

_FORMAT = 1
_WORDS = {
    "source": "scene", "inputs": "input files", "opened_with": "way of opening the scene", "model": "model package", "software": "version",
    "network": "runtime", "grid": "grid", "tiles": "tiles",
}  # fmt: skip
"""Entry of the plan → what its owner would call it."""


@dataclass(frozen=True)
class StripFacts:
    """One strip that is finished."""

    number: int
    observed: int
    """Pixels that have a class."""
    sums: dict[str, int]
    """Part → CRC-32 of its file."""
    notes: tuple[str, ...] = ()
    """What happened on the way that the map's record should tell."""


class Journal:
    """Lines of JSON beside the parts of an unfinished map: the first holds the whole plan, each other one a finished strip.

    A line is written once the strip's files are on the disk, and is on the disk itself before the next strip counts; a line
    that a power failure cut short does not count.
    """

    def __init__(self, work: WorkingFolder, finished: Mapping[int, StripFacts], strips: int, *, placing: bool = False) -> None:
        self.finished = dict(finished)
        """Number of the strip → its facts."""
        self.placing = placing
        """Whether all results were made, and only some still had to be put in their places."""
        self._work, self._path, self._strips = work, work.path / "journal.jsonl", strips
        self._say_worth()

    @classmethod
    def open(cls, work: WorkingFolder, plan: Mapping[str, Any], strips: int, *, resume: bool, overwrite: bool) -> Self:
        """The journal of an unfinished map that is gone on with, or a new one for a map of this plan and number of strips.

        InputError where there is an unfinished map and neither `resume` nor `overwrite` was asked for, or it has another plan.
        """
        lines = _whole_lines(work.path / "journal.jsonl")
        found = [line for line in lines[1:] if "strip" in line]
        if found and lines[0].get("format") == _FORMAT:
            if resume:
                _check_plan(lines[0]["plan"], plan, work)
                facts = {line["strip"]: StripFacts(line["strip"], line["observed"], line["parts"], tuple(line["notes"])) for line in found}
                whole = {number: one for number, one in facts.items() if parts_whole(strip_folder(work, number), one.sums)}
                return cls(work, whole, strips, placing={"placing": True} in lines)
            if not overwrite:
                raise InputError(
                    f"{work.path.parent} holds an unfinished map of {_name(work)}, {len(found)} of {lines[0]['strips']} strips done; "
                    "go on with --resume, or begin anew with --overwrite"
                )
        work.empty()
        journal = cls(work, {}, strips)
        journal._append({"format": _FORMAT, "strips": strips, "plan": plan})
        folder_to_disk(work.path)
        return journal

    def add(self, strip: StripFacts) -> None:
        """Note that this strip is finished."""
        self._append({"strip": strip.number, "observed": strip.observed, "parts": strip.sums, "notes": strip.notes})
        self.finished[strip.number] = strip
        self._say_worth()

    def place(self) -> None:
        """Note that all results are made, and are put in their places from now on."""
        self._append({"placing": True})
        self.placing = True

    def _append(self, line: Mapping[str, Any]) -> None:
        try:
            with self._path.open("ab") as file:
                file.write(json.dumps(line, ensure_ascii=False).encode() + b"\n")
                file.flush()
                to_disk(file.fileno())
        except OSError as error:
            raise output_error(self._path, error) from error

    def _say_worth(self) -> None:
        if any(strip.observed for strip in self.finished.values()):
            self._work.worth_keeping = (
                f"{len(self.finished)} of {self._strips} strips are done and kept: the same command with --resume goes on"
            )


def strip_folder(work: WorkingFolder, number: int) -> Path:
    """Where the parts of a strip lie."""
    return work.path / "parts" / f"{number:06d}"


def _whole_lines(path: Path) -> list[dict[str, Any]]:
    """The lines that were written whole; what follows them is cut off, so that a new line begins there."""
    if not path.exists():
        return []
    lines, whole = [], 0
    for line in path.read_bytes().splitlines(keepends=True):
        try:
            parsed = json.loads(line)
        except ValueError:
            break
        if not line.endswith(b"\n"):
            break
        lines.append(parsed)
        whole += len(line)
    os.truncate(path, whole)
    return lines


def _check_plan(before: Mapping[str, Any], now: Mapping[str, Any], work: WorkingFolder) -> None:
    """Refuse to go on with a map that would be another one from here on, and say in what."""
    now = json.loads(json.dumps(now))  # as it would come back from the file
    if before == now:
        return
    raise InputError(
        f"the unfinished map of {_name(work)} in {work.path.parent} was begun with another {'; another '.join(_differences(before, now))}: "
        "give what it was begun with, or begin anew with --overwrite"
    )


def _differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> Iterable[str]:
    for entry in sorted({*before, *now} - {"options"}):
        if before.get(entry) != now.get(entry):
            yield _WORDS.get(entry, entry)
    options = before.get("options", {}), now.get("options", {})
    for name in sorted({*options[0], *options[1]}):
        old, new = (each.get(name) for each in options)
        if old != new:
            yield f"--{name.replace('_', '-')} (then {old}, now {new})"


def _name(work: WorkingFolder) -> str:
    return work.path.name[1:].removesuffix(".geoseg")
