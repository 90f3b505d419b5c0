"""What tests need from package registries beside their own environment: built once under `.cache`, and kept between runs."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

from tests.support.product import ROOT

BUILD_S = 300
NPM = ("npm", "install", "--silent", "--no-audit", "--no-fund", "--no-package-lock", "--no-update-notifier")


def built(name: str, pins: Path, *commands: list[str]) -> Path:
    """A folder under `.cache` that is made by these commands, anew where the pins have changed."""
    mark = hashlib.sha256(pins.read_bytes() + sys.version.encode()).hexdigest()[:12]
    folder = ROOT / ".cache" / f"{name}-{mark}"
    if not (folder / "built").exists():
        folder.mkdir(parents=True, exist_ok=True)
        for command in commands:
            line = [part.format(folder=folder, pins=pins) for part in command]
            made = subprocess.run(line, cwd=folder, capture_output=True, text=True, timeout=BUILD_S, check=False)
            assert made.returncode == 0, made.stdout + made.stderr
        (folder / "built").touch()
    return folder


def from_npm(name: str, pins: Path) -> Path:
    """A folder with the packages of a `package.json`."""
    return built(name, pins, ["cp", "{pins}", "{folder}"], list(NPM))
