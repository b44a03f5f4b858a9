"""What paths and names say: how GDAL opens them, what is safe in file names, and moments in time."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from urllib.parse import urlsplit


def gdal_path(path: str) -> str:
    """A web or bucket address as GDAL's `/vsi…` path; anything else as it is."""
    scheme, _, rest = path.partition("://")
    if scheme in ("http", "https"):
        return f"/vsicurl/{path}"
    bucket = {"s3": "vsis3", "gs": "vsigs", "az": "vsiaz", "abfs": "vsiadls"}.get(scheme)
    if bucket and rest:
        return f"/{bucket}/{rest}"
    return urlsplit(path).path if scheme == "file" else path


def safe_name(path: str) -> str:
    """The last part of a path, as the beginning of file names on every system: no reserved characters, words or endings."""
    name = re.split(r"[\\/]", path.split("?")[0].rstrip("/\\"))[-1]
    name = re.sub(r"(?i)\.(SAFE|zip|tar|tiff?|jp2|vrt|json|geojson|nc|zarr|img|png|jpe?g|xml|txt)$", "", name)
    name = re.sub(r'[<>:"/\\|?*\x00-\x1f]', "_", name).strip(" .")
    reserved = re.fullmatch(r"(?i)(con|prn|aux|nul|com\d|lpt\d)(\..*)?", name)
    return f"{name}_" if reserved else name or "scene"


def parse_time(text: str) -> datetime | None:
    """A moment in UTC from ISO 8601 or `YYYYMMDD[THHMMSS]`; None where the text holds none."""
    match = re.search(r"(\d{4})-?(\d{2})-?(\d{2})(?:T(\d{2}):?(\d{2}):?(\d{2}))?", text)
    if not match:
        return None
    try:
        return datetime.strptime("".join(match.groups(default="00")), "%Y%m%d%H%M%S").replace(tzinfo=UTC)
    except ValueError:
        return None


def time_in_name(name: str) -> datetime | None:
    """A date that stands alone in a file name (`2021-05-27`, `_20210527_`); None where there is none between 1972 and 2100."""
    match = re.search(r"(?<!\d)(19[7-9]\d|20\d{2})(-?)(0[1-9]|1[0-2])\2(0[1-9]|[12]\d|3[01])(T\d{6})?(?!\d)", name)
    return parse_time(match.group()) if match else None
