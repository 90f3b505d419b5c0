"""Reading the lake: a connection whose tables and views are those of `lastword sql`, over the rows of all collectors."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import duckdb

from collector.lake.dsn import Dsn, LakeUnusable
from collector.lake.engine import attach
from collector.settings import load_settings
from lastword.errors import SettingsError


class Unreadable(Exception):
    """What was to be read cannot be opened. The message says why, and has no password in it."""


def dsn_of_settings() -> Dsn:
    """The lake that the settings name.

    Raises:
        LakeUnusable: they name none.
        SettingsError: they cannot be read.
    """
    text = load_settings().lake_dsn
    if not text:
        raise LakeUnusable("LASTWORD_COLLECTOR_LAKE_DSN says which lake is meant, and is not set")
    return Dsn(text)


@contextmanager
def lake_reader() -> Iterator[duckdb.DuckDBPyConnection]:
    """The lake of the settings, opened to be read.

    Raises:
        Unreadable: it cannot be opened.
    """
    try:
        connection = attach(dsn_of_settings(), f"lastword-read-{os.getpid()}")
    except (LakeUnusable, SettingsError) as error:
        raise Unreadable(str(error)) from error
    with connection:
        yield connection
