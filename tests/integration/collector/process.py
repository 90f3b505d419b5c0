"""A collector as a process of its own: to be killed, starved and started again."""

import contextlib
import os
import subprocess
import sys
from pathlib import Path

import httpx2

from tests.integration.collector.conftest import FOR_EVER
from tests.support.product import ROOT, answers, free_port, wait_for

_HEADERS = {"content-type": "application/x-protobuf"}


def processes(program):
    """The directories of the collector's process and of its decoders in /proc."""
    own = str(program.process.pid)
    parents = {path: path.joinpath("stat").read_text("ascii").rpartition(")")[2].split()[1] for path in _running()}
    return [Path("/proc") / own, *(path for path, parent in parents.items() if parent == own)]


def _running():
    return [path.parent for path in Path("/proc").glob("[0-9]*/stat") if path.exists()]


class Program:
    """`python -m collector` on a folder. Ends with the test at the latest: it follows the pipe of its standard input."""

    def __init__(self, folder, **environment):
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        clean = {name: value for name, value in os.environ.items() if not name.startswith("LASTWORD_")}
        self.environment = {
            **clean,
            "LASTWORD_COLLECTOR_PORT": str(self.port),
            "LASTWORD_COLLECTOR_GRPC_PORT": "0",
            "LASTWORD_DATA_DIR": str(folder),
            **{f"LASTWORD_COLLECTOR_{name.upper()}": str(days) for name, days in FOR_EVER.items()},
            **environment,
        }
        self.process = None
        self.log = None
        """A file for what it prints; it goes to the test's own output where none is set."""
        self.ready_s = 60

    def start(self):
        command = [sys.executable, "-m", "lastword.cli.child", "collector"]
        with contextlib.ExitStack() as files:
            output = files.enter_context(self.log.open("wb")) if self.log else None
            self.process = subprocess.Popen(
                command, cwd=ROOT, env=self.environment, stdin=subprocess.PIPE, stdout=output, stderr=output
            )
        wait_for(
            lambda: self.process.poll() is not None or answers(f"{self.url}/health/ready"),
            self.ready_s,
            "the collector is ready",
        )
        assert self.process.poll() is None, "the collector ended at once"

    def kill(self):
        self.process.kill()
        self._ended(10)

    def stop(self):
        self.process.terminate()
        assert self._ended(30) == 0

    def _ended(self, timeout_s):
        status = self.process.wait(timeout_s)
        self.process.stdin.close()
        return status

    def post(self, signal, body):
        return httpx2.post(f"{self.url}/v1/{signal}", content=body, headers=_HEADERS, trust_env=False, timeout=60)

    def metrics(self):
        """What Prometheus would read."""
        return httpx2.get(f"{self.url}/metrics", trust_env=False, timeout=20).text

    def rows(self, sql):
        response = self._query(sql)
        assert response.status_code == 200, response.text
        return response.json()["rows"]

    def asked(self, sql):
        """Rows, or none while the collector answers that it cannot."""
        response = self._query(sql)
        assert response.status_code in {200, 503}, response.text
        return response.json()["rows"] if response.status_code == 200 else None

    def _query(self, sql):
        query = {"sql": sql, "maxRows": 1_000_000, "timeoutMs": 30_000}
        return httpx2.post(f"{self.url}/v1/sql", json=query, trust_env=False, timeout=60)

    def metric(self, name):
        """The value of a metric without labels."""
        text = httpx2.get(f"{self.url}/metrics", trust_env=False, timeout=10).text
        return next(float(line.split()[1]) for line in text.splitlines() if line.startswith(f"{name} "))
