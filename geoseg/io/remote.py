"""Files on servers: how GDAL asks for them, and reads that are tried again where the server or the line failed."""

from __future__ import annotations

import logging
import os
import re
import time
from collections.abc import Callable
from typing import TypeVar

Result = TypeVar("Result")

REMOTE = ("/vsicurl", "/vsis3", "/vsigs", "/vsiaz", "/vsiadls", "/vsioss", "/vsiswift")
"""How the paths of files on servers begin, as GDAL names them."""
WAITS_S = (2.0, 8.0)
"""Seconds before each further try of a read, once GDAL's own tries are used up."""
_SETTINGS = {
    "GDAL_HTTP_MAX_RETRY": "4",
    "GDAL_HTTP_RETRY_DELAY": "0.5",  # seconds; GDAL about doubles it each time
    "GDAL_HTTP_RETRY_CODES": "429,500,502,503,504",
    "GDAL_HTTP_CONNECTTIMEOUT": "20",  # seconds
    "GDAL_HTTP_LOW_SPEED_TIME": "30",  # a slow line is no failure, a silent one is: seconds under so many bytes a second
    "GDAL_HTTP_LOW_SPEED_LIMIT": "16",
}
_MAY_PASS = re.compile(r"HTTP (response|error) code: (0|429|5\d\d)|CURL error(?!: Could not resolve)|Read error", re.IGNORECASE)
"""What GDAL says where another try may succeed."""
_CAME_WHOLE = re.compile(r"TIFF(Read|Fill)")
"""What it says of a block that was delivered and cannot be decoded; other formats do not tell that from one that was not delivered."""
_CHATTER = re.compile(r"Retrying again in|Request for .* failed with response_code|CURL error|HTTP response code", re.IGNORECASE)

_log = logging.getLogger(__name__)


def http_settings() -> dict[str, str]:
    """GDAL's settings for servers that are slow or busy; what the user set in the environment stays."""
    return {name: value for name, value in _SETTINGS.items() if name not in os.environ}


def is_remote(path: str) -> bool:
    """Whether GDAL fetches this file from a server."""
    return path.startswith(REMOTE)


def remote_settings(path: str, *, again: bool = False) -> dict[str, str]:
    """GDAL's settings while this file is opened: other files of its folder are asked for by name, not listed.

    GDAL remembers that a file could not be fetched; `again` makes it ask once more.
    """
    if not is_remote(path):
        return {}
    _quiet_chatter()
    return {"GDAL_DISABLE_READDIR_ON_OPEN": "TRUE"} | ({"CPL_VSIL_CURL_NON_CACHED": path} if again else {})


def line_failed(path: str, error: BaseException) -> bool:
    """Whether GDAL's error came from the server or the line, or cannot be told from such: a remote file that ends too early."""
    said = "\n".join(_said(error))
    untold = said.startswith("Read failed") and _CAME_WHOLE.search(said) is None
    return is_remote(path) and (untold or _MAY_PASS.search(said) is not None)


def persistently(path: str, read: Callable[[], Result], *, failures: tuple[type[Exception], ...]) -> Result:
    """What `read` gives; where the line to a remote file failed it is tried again, after growing waits, before the error counts."""
    for number, wait in enumerate(WAITS_S if is_remote(path) else (), 1):
        try:
            return read()
        except failures as error:
            if not line_failed(path, error):
                raise
            _log.info("%s: try %d failed (%s); the next one in %g s", path, number, error, wait)
        time.sleep(wait)
    return read()


def _said(error: BaseException | None) -> list[str]:
    """What this error and those behind it say."""
    said = []
    while error is not None:
        said.append(str(error))
        error = error.__cause__
    return said


class _NoChatter(logging.Filter):
    """Leaves out what GDAL says of every single try: the one sentence at the end says it all."""

    def filter(self, record: logging.LogRecord) -> bool:
        return _CHATTER.search(record.getMessage()) is None


_no_chatter = _NoChatter()


def _quiet_chatter() -> None:
    for name in ("rasterio._env", "rasterio._err"):
        logging.getLogger(name).addFilter(_no_chatter)
