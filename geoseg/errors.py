"""The exceptions of geoseg, each one sentence: what was given, what was expected, what to do.

GeosegError               exit code 1
├── InputError            exit code 2: what was given cannot be used
│   ├── SceneError        a scene or one of its files
│   ├── BandError         a band that is missing or whose meaning is unclear
│   ├── PackageError      a model package, or one that does not fit the scene
│   └── LabelError        labels for training or evaluation
├── OutputError           exit code 1: the result cannot be written
└── MissingExtraError     exit code 1: an optional part of geoseg is not installed
"""

from __future__ import annotations

import importlib
from types import ModuleType


class GeosegError(Exception):
    """Root of all errors that geoseg raises on purpose; its text is meant for the user.

    >>> try:
    ...     geoseg.open_scene("nowhere.tif")
    ... except geoseg.GeosegError as error:
    ...     error.exit_code
    2
    """

    exit_code = 1


class InputError(GeosegError):
    """What was given cannot be used."""

    exit_code = 2


class SceneError(InputError):
    """A scene, or one of its files, cannot be used."""


class BandError(InputError):
    """A band is missing, or what it means is unclear."""


class PackageError(InputError):
    """A model package is damaged, or does not fit the scene."""


class LabelError(InputError):
    """Labels cannot be used."""


class OutputError(GeosegError):
    """The result cannot be written."""


class MissingExtraError(GeosegError):
    """An optional part of geoseg is not installed."""


def require(module: str, *, extra: str) -> ModuleType:
    """Import an optional module, or say in one sentence how to install it."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        message = f"this needs {module}, which cannot be imported ({error}); install it with: pip install 'geoseg[{extra}]'"
        raise MissingExtraError(message) from error
