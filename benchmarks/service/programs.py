"""The processes of the benchmark: each server pinned to one core, everything else to another, all of them ended with the run."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import time
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType
from typing import Self

ROOT = Path(__file__).parents[2]
CACHE = ROOT / ".cache"
LITELLM = "1.106.12"
READY_S = 90.0


_USABLE = sorted(os.sched_getaffinity(0))  # asked once: the client pins itself to one of them, and would then see no other


def cores() -> tuple[int, int]:
    """The core of the server under test, and that of the client; the same one where the machine has no second."""
    return _USABLE[0], _USABLE[-1]


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Program(AbstractContextManager["Program"]):
    """A process on one core, which listens on a port."""

    def __init__(self, command: list[str], port: int, *, core: int, log: Path, **environment: str) -> None:
        clean = {name: value for name, value in os.environ.items() if not name.startswith("LASTWORD_")}
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                command,
                cwd=ROOT,
                env={**clean, **environment},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                preexec_fn=lambda: os.sched_setaffinity(0, {core}),  # noqa: PLW1509 - no thread runs yet when it is called
            )
        self.port = port
        self._log = log

    def __enter__(self) -> Self:
        """Waits until it listens.

        Raises:
            RuntimeError: it ends, or does not listen in time; the message holds the end of its log.
        """
        until = time.monotonic() + READY_S
        while time.monotonic() < until and self._process.poll() is None:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return self
            time.sleep(0.1)
        self._end()
        tail = self._log.read_text(errors="replace")[-2000:]
        raise RuntimeError(f"{self._log.stem} does not listen on port {self.port}:\n{tail}")

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._end()

    def _end(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(15)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(5)

    def memory_bytes(self, what: str = "VmRSS") -> int:
        """Resident memory now, or at its highest (`VmHWM`) since `forget_peak`."""
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        found = re.search(rf"^{what}:\s+(\d+) kB", status, re.MULTILINE)
        return int(found[1]) * 1024 if found else 0

    def forget_peak(self) -> None:
        """Begins to count the highest memory anew."""
        Path(f"/proc/{self._process.pid}/clear_refs").write_text("5")


def lane(name: str, folder: Path) -> Program:
    """One of the ways to compare with."""
    port = free_port()
    command = [sys.executable, "-m", "benchmarks.service.lanes", name, str(port)]
    return Program(command, port, core=cores()[0], log=folder / f"{name}.log")


def ours(folder: Path, collector_port: int, **environment: str) -> Program:
    """The service with everything on: log, persistence, spans and records."""
    port = free_port()
    settings = {
        "LASTWORD_DATA_DIR": str(folder / f"data-{port}"),
        "LASTWORD_LOG_LEVEL": "ERROR",
        "LASTWORD_SERVICE_PORT": str(port),
        "LASTWORD_SERVICE_COLLECTOR_URL": f"http://127.0.0.1:{collector_port}",
        "LASTWORD_SERVICE_ROUTES_FILE": str(Path(__file__).with_name("routes.toml")),
        "LASTWORD_SERVICE_CORPUS": str(ROOT / "README.md"),
        "LASTWORD_SERVICE_MAX_TURNS": "256",
    }
    module = "service" if environment.get("LASTWORD_SERVICE_PROVIDER") == "anthropic" else "benchmarks.service.ours"
    command = [sys.executable, "-m", module]
    return Program(command, port, core=cores()[0], log=folder / f"ours-{port}.log", **settings, **environment)


def helper(module: str, folder: Path) -> Program:
    """A program on the client's core: the model provider, or the collector."""
    port = free_port()
    command = [sys.executable, "-m", f"benchmarks.service.{module}", str(port)]
    return Program(command, port, core=cores()[1], log=folder / f"{module}.log")


def litellm(folder: Path, provider_port: int) -> Program:
    """LiteLLM's proxy with one model behind it, from a virtual environment of its own.

    Raises:
        RuntimeError: it cannot be installed, or does not start.
    """
    place = CACHE / f"litellm-{LITELLM}"
    program = place / "bin" / "litellm"
    if not program.exists():
        print(f"installing litellm {LITELLM} into {place} (once, some minutes) …", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(place)], check=True, timeout=120)
        install = [
            str(place / "bin" / "pip"),
            "install",
            "--quiet",
            "--disable-pip-version-check",
            f"litellm[proxy]=={LITELLM}",
        ]
        got = subprocess.run(install, check=False, capture_output=True, text=True, timeout=600)
        if got.returncode != 0:
            raise RuntimeError(f"litellm {LITELLM} cannot be installed: {got.stderr.strip()[-400:]}")
    config = folder / "litellm.yaml"
    config.write_text(
        "model_list:\n- model_name: script\n  litellm_params:\n    model: anthropic/claude-3-5-haiku-latest\n"
        f"    api_base: http://127.0.0.1:{provider_port}\n    api_key: none\n"
    )
    port = free_port()
    command = [str(program), "--config", str(config), "--host", "127.0.0.1", "--port", str(port), "--num_workers", "1"]
    environment = {
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "LITELLM_TELEMETRY": "False",
        "LITELLM_LOG": "ERROR",
        "LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY": "true",  # it is reached from this machine only, and ends with the run
    }
    return Program(command, port, core=cores()[0], log=folder / "litellm.log", **environment)
