"""The whole product as a user starts it, on free ports and in a folder of its own.

`Product` runs `lastword up` as a child process, waits until all three programs are ready, and stops it with Ctrl-C's signal.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx2

ROOT = Path(__file__).resolve().parents[2]
START_S = 90.0
STOP_S = 30.0


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def wait_for(condition: Any, timeout_s: float, what: str, pause_s: float = 0.1) -> Any:
    """The first true value of the condition, within a bound."""
    end = time.monotonic() + timeout_s
    while time.monotonic() < end:
        value = condition()
        if value:
            return value
        time.sleep(pause_s)
    raise TimeoutError(f"{what}: not within {timeout_s} s")


def answers(url: str) -> bool:
    """Whether the address answers 200."""
    try:
        return httpx2.get(url, timeout=2, trust_env=False).status_code == 200
    except httpx2.HTTPError:
        return False


def captured(command: list[str], *, timeout_s: float, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """Runs a command to its end, without input; what it printed is text."""
    return subprocess.run(
        command, cwd=cwd, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout_s, check=False
    )


class Product:
    """Collector, service and dashboard, started by `lastword up`."""

    def __init__(self, folder: Path, **environment: str) -> None:
        self.folder = folder
        self.ports = {name: free_port() for name in ("COLLECTOR", "SERVICE", "DASHBOARD")}
        self.collector, self.service, self.dashboard = (f"http://127.0.0.1:{port}" for port in self.ports.values())
        clean = {name: value for name, value in os.environ.items() if not name.startswith("LASTWORD_")}
        self.environment = {
            **clean,
            **{f"LASTWORD_{name}_PORT": str(port) for name, port in self.ports.items()},
            "LASTWORD_COLLECTOR_GRPC_PORT": "0",
            "LASTWORD_DATA_DIR": str(folder / "data"),
            "LASTWORD_SERVICE_URL": self.service,
            "LASTWORD_COLLECTOR_URL": self.collector,
            "PYTHONUNBUFFERED": "1",
            **environment,
        }
        self.log_path = folder / "up.log"
        self.process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        with self.log_path.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "lastword.cli.main", "up"],
                cwd=ROOT,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        try:
            wait_for(self._ready, START_S, "the product is ready")
        except BaseException:
            self.stop()
            print(self.log)
            raise
        return self

    def _ready(self) -> bool:
        if self.process is None or self.process.poll() is not None:
            raise RuntimeError(f"`lastword up` ended early:\n{self.log}")
        checks = (f"{self.collector}/health/ready", f"{self.service}/health/ready", f"{self.dashboard}/_stcore/health")
        return all(answers(url) for url in checks)

    @property
    def log(self) -> str:
        """What `lastword up` printed so far."""
        return self.log_path.read_text(errors="replace")

    def run(self, *arguments: str, timeout_s: float = 120) -> subprocess.CompletedProcess[str]:
        """Runs `lastword …` against this product."""
        return subprocess.run(
            [sys.executable, "-m", "lastword.cli.main", *arguments],
            cwd=ROOT,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )

    def sql(self, query: str, params: list[Any] | None = None) -> list[list[Any]]:
        """Rows from the collector's SQL endpoint."""
        response = httpx2.post(
            f"{self.collector}/v1/sql",
            json={"sql": query, "params": params or [], "format": "json"},
            timeout=30,
            trust_env=False,
        )
        response.raise_for_status()
        rows: list[list[Any]] = response.json()["rows"]
        return rows

    def stop(self) -> int:
        """Ctrl-C, and the exit status."""
        if self.process is None:
            return 0
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
        try:
            return self.process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()
