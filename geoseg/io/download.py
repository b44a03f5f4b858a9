"""Files fetched over http that go on where they stopped: after a dropped line, Ctrl-C or a restart of the machine."""

from __future__ import annotations

import json
import re
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import Any
from urllib.parse import quote

from geoseg.errors import GeosegError
from geoseg.io.atomic import output_error

Progress = Callable[[int, int], None]
"""Called with the bytes that are there and all bytes; 0 for all where the server does not say."""

_CHUNK = 1 << 20
_TRIES = 5
"""So many times in a row without a further byte a download is taken up again."""
_PATIENCE_S = 60
_FIRST_PAUSE_S = 1.0
_SHORT = re.compile(r"^(zenodo|hf|s3):(?://)?(.+)$")


def web_address(short: str) -> str:
    """The https address of a short one.

    `zenodo:RECORD/FILE` is a file of a record, `hf:datasets/OWNER/NAME/PATH` one of a repository of Hugging Face, `s3://BUCKET/KEY` one
    of a public bucket; others stay as they are.
    """
    found = _SHORT.match(short)
    if found is None:
        return short
    place, _, rest = found[2].partition("/")
    if found[1] == "zenodo":
        return f"https://zenodo.org/records/{place}/files/{quote(rest)}?download=1"
    if found[1] == "s3":
        return f"https://{place}.s3.amazonaws.com/{quote(rest)}"
    owner, name, path = (rest if place == "datasets" else found[2]).split("/", 2)
    return f"https://huggingface.co/{'datasets/' if place == 'datasets' else ''}{owner}/{name}/resolve/main/{quote(path)}"


def download(url: str, out: Path, progress: Progress | None = None) -> Path:
    """The file at `url` as `out`, in a folder that is there; what an earlier try left beside it (`.part`) is gone on with.

    Where the server cannot send the rest, or the file has changed there since, it begins anew. Raises GeosegError where the server
    refuses or keeps breaking off, OutputError where `out` cannot be written; what has come so far stays for the next try.
    """
    part, note = out.with_name(f"{out.name}.part"), out.with_name(f"{out.name}.part.json")
    pause, tries = _FIRST_PAUSE_S, 0
    while True:
        before = part.stat().st_size if part.exists() else 0
        try:
            _go_on(web_address(url), part, note, progress)
            break
        except urllib.error.HTTPError as error:
            if error.code < 500 and error.code not in (408, 429):
                raise GeosegError(f"{url} could not be downloaded: the server says {error.code} {error.reason}") from error
            said: Exception = error
        except (HTTPException, TimeoutError, ConnectionError, urllib.error.URLError) as error:
            said = error
        except OSError as error:
            raise output_error(out, error) from error
        tries = 1 if part.exists() and part.stat().st_size > before else tries + 1
        if tries >= _TRIES:
            raise GeosegError(f"{url} could not be downloaded ({said}); check the connection, and run the command again to go on") from said
        time.sleep(pause)
        pause = min(2 * pause, 30.0)
    part.replace(out)
    note.unlink(missing_ok=True)
    return out


def _go_on(url: str, part: Path, note: Path, progress: Progress | None) -> None:
    """Fetch what is missing of one file."""
    known = json.loads(note.read_text(encoding="utf-8")) if note.exists() and part.exists() else {}
    have = part.stat().st_size if known.get("url") == url and known.get("version") else 0
    request = urllib.request.Request(url, headers={"User-Agent": "geoseg"})
    if have:
        request.add_header("Range", f"bytes={have}-")
        request.add_header("If-Range", known["version"])  # a file that has changed comes whole
    try:
        answer = urllib.request.urlopen(request, timeout=_PATIENCE_S)
    except urllib.error.HTTPError as error:
        if error.code == 416 and have and known.get("total") == have:
            return  # nothing is missing
        if error.code == 416:
            part.unlink()
            raise ConnectionError("what had come is not a part of the file that is there now") from error
        raise
    with answer:
        have = have if answer.status == 206 else 0
        total = have + int(answer.headers.get("Content-Length") or 0)
        note.write_text(json.dumps({"url": url, "version": _version(answer.headers), "total": total}), encoding="utf-8")
        with part.open("ab" if have else "wb") as file:
            _copy(answer, file, have, total, progress)


def _copy(answer: HTTPResponse, file: Any, have: int, total: int, progress: Progress | None) -> None:
    while chunk := answer.read(_CHUNK):
        file.write(chunk)
        have += len(chunk)
        if progress is not None:
            progress(have, total if total > have else have)
    if answer.headers.get("Content-Length") is not None and have < total:
        raise ConnectionError(f"{total - have} bytes are missing")


def _version(headers: Mapping[str, str]) -> str | None:
    """What tells this version of a file from others; None where the server does not say for sure."""
    tag = headers.get("ETag")
    return tag if tag is not None and not tag.startswith("W/") else headers.get("Last-Modified")
