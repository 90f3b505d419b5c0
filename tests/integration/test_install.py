"""The Dockerfile's install steps, in a fresh virtual environment."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
@pytest.mark.timeout(420)
def test_install_steps_of_the_image_give_running_programs(tmp_path):
    """The same commands, on copies of the same files: every program imports, and the command answers."""
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    steps = [line.strip().removeprefix("RUN ").rstrip(" \\") for line in text.splitlines() if "pip install" in line]
    assert len(steps) == 2
    for names in re.findall(r"^COPY (.+) \S+$", text, re.MULTILINE):
        for name in names.split():
            source = ROOT / name
            copy = shutil.copytree if source.is_dir() else shutil.copy
            copy(source, tmp_path / name)
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    for step in steps:
        program, *arguments = step.split()
        assert program == "pip"
        done = subprocess.run(
            [tmp_path / "venv" / "bin" / program, *arguments, "--quiet"],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
    python = tmp_path / "venv" / "bin" / "python"
    for module in ("service.app", "collector.app", "dashboard.__main__"):
        subprocess.run([python, "-c", f"import {module}"], cwd=tmp_path, check=True)
    answered = subprocess.run([tmp_path / "venv" / "bin" / "lastword", "--version"], capture_output=True, text=True, check=True)
    assert "lastword" in answered.stdout
