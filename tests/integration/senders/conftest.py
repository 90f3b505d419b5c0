"""The senders' environments, built once and kept between runs, and one collector for all of them."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.collector.process import Program
from tests.support.built import built, from_npm
from tests.support.fake_anthropic import FakeAnthropic
from tests.support.product import free_port

HERE = Path(__file__).parent
TOKEN = "sk-lf-a-long-random-token"


@pytest.fixture(scope="session")
def python():
    """The interpreter that has the Python senders."""
    install = ["{folder}/bin/python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r", "{pins}"]
    folder = built("senders-python", HERE / "requirements.txt", [sys.executable, "-m", "venv", "{folder}"], install)
    return folder / "bin" / "python"


@pytest.fixture(scope="session")
def javascript():
    """The folder that has the JavaScript senders."""
    return from_npm("senders-javascript", HERE / "package.json")


@pytest.fixture(scope="session")
def collector(tmp_path_factory):
    """A collector with both ports that asks for a token, and makes turns quickly."""
    port = free_port()
    program = Program(
        tmp_path_factory.mktemp("senders"),
        LASTWORD_COLLECTOR_GRPC_PORT=str(port),
        LASTWORD_COLLECTOR_TOKENS=TOKEN,
        LASTWORD_COLLECTOR_SPANS_SETTLE_MS="200",
    )
    program.grpc_url = f"http://127.0.0.1:{port}"
    program.start()
    yield program
    program.stop()


@pytest.fixture(scope="session")
def model():
    """A local server that speaks like a model's provider."""
    with FakeAnthropic() as server:
        yield server


def run(command, *, cwd=None, **environment):
    """Runs a sender to its end; what it said that it sent. It must not see that a test runs it: Logfire would send nothing."""
    clean = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("LASTWORD_", "OTEL_", "LANGFUSE_", "LOGFIRE_", "PYTEST_"))
    }
    token = {"OTEL_EXPORTER_OTLP_HEADERS": f"authorization=Bearer {TOKEN}", "TOKEN": TOKEN, "NO_PROXY": "127.0.0.1"}
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd or HERE,
        env={**clean, **token, **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    lines = [line.removeprefix("TOLD ") for line in done.stdout.splitlines() if line.startswith("TOLD ")]
    assert lines, done.stdout + done.stderr
    return json.loads(lines[-1]), done
