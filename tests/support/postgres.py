"""A real PostgreSQL server in a temporary folder, on loopback."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.product import free_port, wait_for

PROGRAMS = sorted(Path("/usr/lib/postgresql").glob("*/bin"))


@contextmanager
def postgres(*, durable: bool = False) -> Iterator[str]:
    """The SQLAlchemy URL of a server that lives as long as the block, and syncs its files only where it is to be durable."""
    programs = PROGRAMS[-1]
    folder = Path(tempfile.mkdtemp(prefix="lastword-pg-"))
    port = free_port()
    run_as: list[str] = []
    if os.getuid() == 0:  # the server refuses to run as root
        owner = pwd.getpwnam("postgres")
        os.chown(folder, owner.pw_uid, owner.pw_gid)
        run_as = ["runuser", "-u", "postgres", "--"]
    data = folder / "data"
    subprocess.run(
        [*run_as, programs / "initdb", "-D", data, "-U", "lastword", "-A", "trust", "-E", "UTF8", "--no-sync"],
        check=True,
        capture_output=True,
        timeout=60,
    )
    options = [
        "-D",
        data,
        "-p",
        str(port),
        "-k",
        folder,
        "-c",
        "listen_addresses=127.0.0.1",
        "-c",
        f"fsync={'on' if durable else 'off'}",
    ]
    server = subprocess.Popen([*run_as, programs / "postgres", *options], stderr=subprocess.DEVNULL)
    try:
        ready = [programs / "pg_isready", "-h", "127.0.0.1", "-p", str(port), "-q"]
        wait_for(lambda: subprocess.run(ready, check=False).returncode == 0, 30, "PostgreSQL is ready")
        yield f"postgresql+psycopg://lastword@127.0.0.1:{port}/postgres"
    finally:
        subprocess.run(
            [*run_as, programs / "pg_ctl", "-D", data, "stop", "-m", "immediate"], check=False, capture_output=True, timeout=30
        )
        server.wait(30)
        shutil.rmtree(folder, ignore_errors=True)
