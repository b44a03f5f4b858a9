"""The page in the user's browser, for as long as he looks at it."""

from __future__ import annotations

import secrets
import socket
import threading
import webbrowser
from collections.abc import Callable

from geoseg.errors import InputError, require
from geoseg.view.guard import Rules, is_address, is_loopback
from geoseg.view.server import make_app
from geoseg.view.shown import Shown

_ANYWHERE = ("0.0.0.0", "::", "")
_WAITING = 128
"""Requests that may wait to be taken."""
_PATIENCE_S = 2
"""For answers that are under way when the user stops."""


def serve(shown: Shown, *, host: str = "127.0.0.1", port: int = 0, browser: bool = True, say: Callable[[str], None] = print) -> None:
    """Serve the page until the user stops it (KeyboardInterrupt); `say` is told its address.

    A port of 0 takes one that is free. Beyond this machine the address begins with a random word. InputError where the port is taken or the
    host is not one of this machine's; MissingExtraError where the extra `web` is not installed.
    """
    token = None if is_loopback(host) else secrets.token_urlsafe(24)
    with _bound(host, port) as listening:
        address = f"http://{_shown_host(host)}:{listening.getsockname()[1]}/{f'{token}/' if token else ''}"
        say(address)  # whoever opens it now waits until the libraries are loaded, which takes two seconds
        if browser:
            threading.Thread(target=webbrowser.open, args=(address,), daemon=True).start()
        try:
            uvicorn = require("uvicorn", extra="web")
            app = make_app(shown, Rules(host, token))
            settings = {"log_level": "warning", "access_log": False, "server_header": False, "timeout_graceful_shutdown": _PATIENCE_S}
            uvicorn.Server(uvicorn.Config(app, lifespan="on", **settings)).run(sockets=[listening])
        except KeyboardInterrupt as stop:
            stop.add_note("the page is no longer served, and all files are as they were")
            raise
    raise InputError("the page's server ended before anyone stopped it; start geoseg view again")


def _bound(host: str, port: int) -> socket.socket:
    """A socket that listens there."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    except (socket.gaierror, OverflowError) as error:
        raise InputError(
            f"--host {host} --port {port} is no address of this machine ({error}); leave both out, or say --host 0.0.0.0"
        ) from error
    listening = socket.socket(family, kind, protocol)
    try:
        if hasattr(socket, "SO_REUSEADDR") and not hasattr(socket, "SO_EXCLUSIVEADDRUSE"):  # Windows would share a port that is taken
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen(_WAITING)
    except OSError as error:
        listening.close()
        raise InputError(f"{host}:{port} cannot be used ({error.strerror or error}); choose another --port, or leave it out") from error
    return listening


def _shown_host(host: str) -> str:
    if host in _ANYWHERE:
        return socket.gethostname()
    return f"[{host}]" if is_address(host) and ":" in host else host
