"""Downloads that go on where they stopped, against a real server that breaks off, changes its file or cannot send parts."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from geoseg.errors import GeosegError
from geoseg.io import download as download_module
from geoseg.io.download import download, web_address

pytestmark = pytest.mark.enable_socket
CONTENT = np.random.default_rng(0).bytes(3_000_000)


class Server(http.server.ThreadingHTTPServer):
    """Sends `content`, at most `breaks_after` bytes in one answer; knows parts where `ranges` says so."""

    content, etag, breaks_after, ranges, status = CONTENT, '"one"', 10**9, True, 200

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[str | None] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/file.bin"


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        server, wanted = self.server, self.headers.get("Range")
        server.asked.append(wanted)
        if server.status != 200:
            self.send_error(server.status)
            return
        fits = wanted and server.ranges and self.headers.get("If-Range") == server.etag
        first = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and fits else 0
        if first >= len(server.content):
            self.send_error(416)
            return
        self.send_response(206 if fits else 200)
        self.send_header("Content-Length", str(len(server.content) - first))
        if server.etag:
            self.send_header("ETag", server.etag)
        self.end_headers()
        self.wfile.write(server.content[first : first + server.breaks_after])

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(download_module, "_FIRST_PAUSE_S", 0.0)
    with Server() as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield running
        running.shutdown()


def test_a_file_arrives_whole_with_its_progress(server: Server, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    out = download(server.url, tmp_path / "file.bin", lambda done, total: seen.append((done, total)))
    assert out.read_bytes() == CONTENT
    assert seen[-1] == (len(CONTENT), len(CONTENT))
    assert [path.name for path in tmp_path.iterdir()] == ["file.bin"]


def test_a_line_that_drops_is_taken_up_where_it_dropped(server: Server, tmp_path: Path) -> None:
    server.breaks_after = 1_100_000
    assert download(server.url, tmp_path / "file.bin").read_bytes() == CONTENT
    assert server.asked == [None, "bytes=1100000-", "bytes=2200000-"]


def test_a_later_run_goes_on_with_what_is_there(server: Server, tmp_path: Path) -> None:
    def stop(done: int, total: int) -> None:
        if done >= 2_000_000:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        download(server.url, tmp_path / "file.bin", stop)
    assert not (tmp_path / "file.bin").exists()
    have = (tmp_path / "file.bin.part").stat().st_size
    assert have >= 2_000_000
    assert download(server.url, tmp_path / "file.bin").read_bytes() == CONTENT
    assert server.asked == [None, f"bytes={have}-"]


@pytest.mark.parametrize("how", ["changed", "no parts", "no version"])
def test_what_cannot_be_gone_on_with_begins_anew(server: Server, tmp_path: Path, how: str) -> None:
    (tmp_path / "file.bin.part").write_bytes(b"x" * 1000)
    if how == "no version":
        server.etag = ""
    known = {"url": server.url, "version": None if how == "no version" else '"one"', "total": 5}
    (tmp_path / "file.bin.part.json").write_text(json.dumps(known))
    if how == "changed":
        server.etag = '"two"'
    if how == "no parts":
        server.ranges = False
    assert download(server.url, tmp_path / "file.bin").read_bytes() == CONTENT
    assert server.asked[0] == (None if how == "no version" else "bytes=1000-")


def test_a_part_that_is_whole_already_is_taken(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file.bin.part").write_bytes(CONTENT)
    (tmp_path / "file.bin.part.json").write_text(json.dumps({"url": server.url, "version": '"one"', "total": len(CONTENT)}))
    assert download(server.url, tmp_path / "file.bin").read_bytes() == CONTENT
    assert server.asked == [f"bytes={len(CONTENT)}-"]


def test_more_than_there_is_now_begins_anew(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file.bin.part").write_bytes(CONTENT + b"more")
    (tmp_path / "file.bin.part.json").write_text(json.dumps({"url": server.url, "version": '"one"', "total": 5}))
    assert download(server.url, tmp_path / "file.bin").read_bytes() == CONTENT


@pytest.mark.parametrize(("status", "times"), [(404, 1), (503, 5)])
def test_a_server_that_refuses_is_one_sentence(server: Server, tmp_path: Path, status: int, times: int) -> None:
    server.status = status
    with pytest.raises(GeosegError, match=str(status)):
        download(server.url, tmp_path / "file.bin")
    assert len(server.asked) == times, "what may pass is tried again"


def test_a_server_that_is_not_there_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download_module, "_FIRST_PAUSE_S", 0.0)
    with pytest.raises(GeosegError, match="run the command again to go on"):
        download("http://127.0.0.1:1/file.bin", tmp_path / "file.bin")


@pytest.mark.parametrize(
    ("short", "long"),
    [
        ("zenodo:123/a file.zip", "https://zenodo.org/records/123/files/a file.zip?download=1"),
        ("s3://bucket/a/b.tif", "https://bucket.s3.amazonaws.com/a/b.tif"),
        ("hf:datasets/some/set/raw/a.tar.gz", "https://huggingface.co/datasets/some/set/resolve/main/raw/a.tar.gz"),
        ("hf:some/model/a.pt", "https://huggingface.co/some/model/resolve/main/a.pt"),
        ("https://example.org/a.zip", "https://example.org/a.zip"),
    ],
)
def test_short_addresses_are_written_out(short: str, long: str) -> None:
    assert web_address(short) == long.replace("a file", "a%20file")
