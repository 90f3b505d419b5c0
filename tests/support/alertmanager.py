"""A real Alertmanager, Debian's, on loopback and in a folder of its own."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx2

from tests.support.product import answers, free_port, wait_for

PROGRAM = "prometheus-alertmanager"
CONFIG = """
route:
  receiver: nobody
receivers:
  - name: nobody
inhibit_rules:
  - source_matchers: [role="root"]
    target_matchers: [role="symptom"]
    equal: [incident]
"""
"""What docs/alerts.md tells users to write, without anybody to wake."""


class RealAlertmanager:
    """The program, until the block ends."""

    @staticmethod
    def there() -> bool:
        """Whether it is installed."""
        return shutil.which(PROGRAM) is not None

    def __init__(self, folder: Path, port: int | None = None) -> None:
        folder.mkdir(parents=True)
        self.folder = folder
        self.port = port or free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        (folder / "config.yml").write_text(CONFIG, encoding="utf-8")
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        with (self.folder / "log").open("wb") as log:
            self._process = subprocess.Popen(
                [
                    PROGRAM,
                    f"--config.file={self.folder / 'config.yml'}",
                    f"--storage.path={self.folder / 'data'}",
                    f"--web.listen-address=127.0.0.1:{self.port}",
                    "--cluster.listen-address=",
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        wait_for(lambda: answers(f"{self.url}/-/ready"), 30, "Alertmanager is ready")
        return self

    def alerts(self, state: str) -> list[dict[str, Any]]:
        """The alerts of a state: `active` or `suppressed`."""
        other = {"active": "inhibited", "suppressed": "active"}[state]
        response = httpx2.get(f"{self.url}/api/v2/alerts", params={other: "false"}, trust_env=False, timeout=10)
        response.raise_for_status()
        return [one for one in response.json() if one["status"]["state"] == state]

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(15)
