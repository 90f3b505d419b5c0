"""The curl commands of docs/http.md, run as they stand there, one after the other in one shell."""

import json
import re
import shutil

import pytest

from tests.support.product import ROOT, captured
from tests.support.service import Service

DOCUMENTED = "http://127.0.0.1:8000"
CUT = "\n===cut===\n"


@pytest.fixture
def service(tmp_path):
    """A service of its own."""
    started = Service(tmp_path / "data")
    yield started
    started.stop()


def test_documented_commands_do_what_the_page_says(service, tmp_path):
    """Ask, come back, look, stop, and read what can be relied on."""
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed: apt-get install curl")
    page = (ROOT / "docs" / "http.md").read_text(encoding="utf-8")
    blocks = [block for block in re.findall(r"```sh\n(.*?)```", page, re.DOTALL) if "curl" in block]
    assert len(blocks) == 4
    script = f"printf '{CUT}'\n".join(blocks).replace(DOCUMENTED, service.url)
    run = captured(["bash", "-euo", "pipefail", "-c", script], timeout_s=60, cwd=tmp_path)
    assert run.returncode == 0, run.stderr
    first, whole, rest, looks = run.stdout.split(CUT)
    assert first.startswith("event: ack\n")
    assert re.findall(r"^event: (\w+)$", whole, re.MULTILINE)[:2] == ["ack", "chunk"]
    assert "event: done" in whole
    frames = [frame for frame in whole.split("\n\n") if frame]
    assert [frame for frame in rest.split("\n\n") if frame] == frames[3:]
    decoder, at, documents = json.JSONDecoder(), 0, []
    while at < len(looks.rstrip()):
        document, at = decoder.raw_decode(looks, at)
        documents.append(document)
    state, cancelled, contract = documents
    assert state["terminal"]["type"] == "done"
    assert cancelled == state
    assert contract["versions"] == ["turn/1.0"]
