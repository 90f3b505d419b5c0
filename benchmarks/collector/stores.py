"""The lanes as programs that can be started, killed, started again and asked how many spans they show. Peers are installed into virtual environments of their own under `.cache/`."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from pathlib import Path
from typing import ClassVar

import httpx2

from benchmarks.service.programs import CACHE, ROOT, free_port

PEERS = {"phoenix": ("arize-phoenix", "PHOENIX_VERSION"), "mlflow": ("mlflow", "MLFLOW_VERSION")}
READY_S = 180.0
TICKS = os.sysconf("SC_CLK_TCK")


class Lane(ABC):
    """A store as a process in a folder of its own."""

    name = ""
    path = "/v1/traces"
    health = "/"
    headers: ClassVar[dict[str, str]] = {}

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def version(self) -> str:
        """The version, where it is somebody else's."""
        return ""

    @abstractmethod
    def command(self) -> list[str]:
        """How it is started."""

    def environment(self) -> dict[str, str]:
        """Its settings."""
        return {}

    def count(self) -> int:
        """How many spans can be queried now."""
        return int(httpx2.get(f"{self.url}/count", timeout=60, trust_env=False).text)

    def compact(self) -> None:  # noqa: B027 - most lanes have no such way
        """Brings the data on disk to rest, where there is a way."""

    def disk_bytes(self) -> int:
        """Bytes of its data."""
        return sum(path.stat().st_size for path in self.folder.rglob("*") if path.is_file() and path.suffix != ".log")

    def start(self) -> None:
        """Starts it and waits until it answers.

        Raises:
            RuntimeError: it ends, or does not answer in time; the message holds the end of its log.
        """
        clean = {name: value for name, value in os.environ.items() if not name.startswith("LASTWORD_")}
        with (self.folder / "out.log").open("ab") as log:
            self.process = subprocess.Popen(
                self.command(),
                cwd=ROOT,
                env={**clean, **self.environment()},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        until = time.monotonic() + READY_S
        while time.monotonic() < until and self.process.poll() is None:
            try:
                if httpx2.get(f"{self.url}{self.health}", timeout=2, trust_env=False).status_code < 500:
                    return
            except httpx2.HTTPError:
                time.sleep(0.1)
        self.kill()
        raise RuntimeError(f"{self.name} does not answer:\n{(self.folder / 'out.log').read_text(errors='replace')[-1500:]}")

    def kill(self) -> None:
        """SIGKILL, for it and its children."""
        self._signal(signal.SIGKILL)

    def stop(self) -> None:
        """SIGTERM, then SIGKILL."""
        self._signal(signal.SIGTERM)

    def _signal(self, number: int) -> None:
        if self.process is None:
            return
        for one in (number, signal.SIGKILL):
            try:
                os.killpg(self.process.pid, one)  # the group that it was started as
                self.process.wait(30)
            except subprocess.TimeoutExpired:
                continue
            except ProcessLookupError:
                pass
            break
        self.process = None

    def _pids(self) -> list[int]:
        """The processes of its group."""
        found = []
        for path in Path("/proc").glob("[0-9]*/stat"):
            try:
                fields = path.read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if self.process is not None and int(fields[2]) == self.process.pid:
                found.append(int(path.parent.name))
        return found

    def cpu_s(self) -> float:
        """Processor seconds of all of its processes since their start."""
        total = 0
        for pid in self._pids():
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            total += int(fields[11]) + int(fields[12])
        return total / TICKS

    def peak_bytes(self) -> int:
        """The highest resident memory of each of its processes, added up."""
        total = 0
        for pid in self._pids():
            for line in Path(f"/proc/{pid}/status").read_text().splitlines():
                if line.startswith("VmHWM:"):
                    total += int(line.split()[1]) * 1024
        return total


class Body(Lane):
    """Reads the body and nothing else."""

    name = "body only"
    health = "/count"

    def command(self) -> list[str]:
        """One of `benchmarks.collector.lanes`."""
        return [sys.executable, "-m", "benchmarks.collector.lanes", "body", str(self.port), str(self.folder)]


class Plain(Lane):
    """Protobuf, Arrow, DuckDB, a commit before the 200."""

    name = "plain way"
    health = "/count"

    def command(self) -> list[str]:
        """One of `benchmarks.collector.lanes`."""
        return [sys.executable, "-m", "benchmarks.collector.lanes", "plain", str(self.port), str(self.folder)]


class Ours(Lane):
    """The collector, with its defaults."""

    name = "lastword"
    health = "/health/ready"

    def command(self) -> list[str]:
        """As a user starts it."""
        return [sys.executable, "-m", "collector"]

    def environment(self) -> dict[str, str]:
        """Nothing but where."""
        return {
            "LASTWORD_DATA_DIR": str(self.folder),
            "LASTWORD_LOG_LEVEL": "WARNING",
            "LASTWORD_COLLECTOR_PORT": str(self.port),
            "LASTWORD_COLLECTOR_GRPC_PORT": "0",
        }

    def _number(self, sql: str) -> int:
        body = {"sql": sql, "timeoutMs": 30_000}
        answer = httpx2.post(f"{self.url}/v1/sql", json=body, timeout=60, trust_env=False)
        answer.raise_for_status()
        return int(answer.json()["rows"][0][0] or 0)

    def count(self) -> int:
        """Spans, as anybody would count them."""
        return self._number("select count(*) from spans")

    def compact(self) -> None:
        """Publishes what has landed."""
        httpx2.post(f"{self.url}/v1/store/publish", timeout=120, trust_env=False).raise_for_status()

    def disk_bytes(self) -> int:
        """Bytes of the segments of spans that count. Superseded files go ten minutes later."""
        return self._number("select sum(bytes) from store.segments where table_name = 'spans' and superseded_at is null")


class Peer(Lane):
    """Somebody else's store, in an environment of its own."""

    package = ""
    database = ""
    table = ""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.place = CACHE / self.package
        self._install()

    def _install(self) -> None:
        if not (self.place / "done").exists():
            print(f"installing {self.package} into {self.place} (once, some minutes) …", file=sys.stderr)
            subprocess.run([sys.executable, "-m", "venv", "--clear", str(self.place)], check=True, timeout=120)
            command = [str(self.place / "bin" / "pip"), "install", "--quiet", "--disable-pip-version-check", self.package]
            got = subprocess.run(command, check=False, capture_output=True, text=True, timeout=900)
            if got.returncode != 0:
                raise RuntimeError(f"{self.package} cannot be installed: {got.stderr.strip()[-400:]}")
            (self.place / "done").touch()

    @property
    def version(self) -> str:
        """As its own metadata say."""
        code = f"from importlib.metadata import version; print(version({self.package!r}))"
        done = subprocess.run(
            [str(self.place / "bin" / "python"), "-c", code], check=True, capture_output=True, text=True, timeout=60
        )
        return done.stdout.strip()

    def count(self) -> int:
        """Spans in its database, which is what its pages read."""
        with sqlite3.connect(f"file:{self.folder / self.database}?mode=ro", uri=True, timeout=30) as connection:
            row = connection.execute(f"SELECT count(*) FROM {self.table}").fetchone()
        return int(row[0])


class Phoenix(Peer):
    """Arize Phoenix with its embedded database."""

    name, package, database, table = "phoenix", "arize-phoenix", "phoenix.db", "spans"
    health = "/healthz"

    def command(self) -> list[str]:
        """Its own command."""
        return [str(self.place / "bin" / "phoenix"), "serve"]

    def environment(self) -> dict[str, str]:
        """Where, and nobody is told."""
        return {
            "PHOENIX_WORKING_DIR": str(self.folder),
            "PHOENIX_PORT": str(self.port),
            "PHOENIX_HOST": "127.0.0.1",
            "PHOENIX_GRPC_PORT": str(free_port()),
            "PHOENIX_TELEMETRY_ENABLED": "false",
            "PHOENIX_ENABLE_PROMETHEUS": "false",
        }


class Mlflow(Peer):
    """MLflow's tracking server on SQLite."""

    name, package, database, table = "mlflow", "mlflow", "mlflow.db", "spans"
    health = "/health"
    headers: ClassVar[dict[str, str]] = {"x-mlflow-experiment-id": "0"}

    def command(self) -> list[str]:
        """Its own command."""
        store = f"sqlite:///{self.folder / self.database}"
        where = ["--host", "127.0.0.1", "--port", str(self.port), "--workers", "1"]
        return [str(self.place / "bin" / "mlflow"), "server", "--backend-store-uri", store, *where]

    def environment(self) -> dict[str, str]:
        """Nobody is told, and its command finds its own Python."""
        return {
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "DO_NOT_TRACK": "true",
            "PATH": f"{self.place / 'bin'}:{os.environ.get('PATH', '')}",
        }


LANES: dict[str, type[Lane]] = {lane.name: lane for lane in (Body, Plain, Ours, Phoenix, Mlflow)}
