"""The documentation says what the code says."""

import json
import re
from pathlib import Path

import jsonschema
import pytest

from docs.generate import DOCS, pages
from lastword.schema import done_schema
from lastword.wire import encode_json
from tests.unit.lastword.samples import DONE

ROOT = DOCS.parent


def test_generated_parts_are_fresh():
    """Diagram, tables and schema in the docs are what the code generates now."""
    stale = [path.name for path, text in pages().items() if path.read_text(encoding="utf-8") != text]
    assert stale == [], "run `make docs`"


def test_schema_describes_a_done_event():
    """The schema accepts a real done event, and refuses one without its status."""
    event = json.loads(encode_json(DONE))
    jsonschema.validate(event, done_schema())
    del event["metadata"]["completionStatus"]
    with pytest.raises(jsonschema.ValidationError, match="completionStatus"):
        jsonschema.validate(event, done_schema())


@pytest.mark.parametrize("page", sorted([*DOCS.rglob("*.md"), ROOT / "README.md"]), ids=lambda page: page.name)
def test_links_between_pages_lead_somewhere(page):
    """Every relative link and picture of a page is there."""
    links = re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text(encoding="utf-8"))
    missing = [link for link in links if "://" not in link and not (page.parent / Path(link)).exists()]
    assert missing == []
