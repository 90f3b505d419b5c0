"""`python -m service.retrieval`."""

import pytest
from click.testing import CliRunner

from service.retrieval.__main__ import main


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.setenv("LASTWORD_DATA_DIR", str(tmp_path / "data"))
    (tmp_path / "corpus").mkdir()
    (tmp_path / "corpus" / "a.md").write_text("# Heartbeats\n\nThey keep a connection from looking idle.\n")
    (tmp_path / "corpus" / "b.jsonl").write_text('{"title": "[red]no text[/red]"}\n')
    return lambda *arguments: CliRunner().invoke(main, [str(argument) for argument in arguments])


def test_command_builds_the_index_of_the_settings_and_tries_a_question(run, tmp_path):
    """The report names numbers and what was skipped; hits go to the standard output."""
    result = run(tmp_path / "corpus", "--query", "idle connection")
    assert result.exit_code == 0
    assert "1 documents in 2 files, 1 passages; 2 files new or changed, 0 removed, 1" in result.stderr
    assert "skipped b.jsonl:1: none of the fields" in result.stderr
    assert "http://127.0.0.1:8000/docs/a.md  Heartbeats" in result.stdout
    assert (tmp_path / "data" / "service" / "index.sqlite").exists()


def test_command_refreshes_unless_told_to_rebuild(run, tmp_path):
    """The second run reads nothing again, a rebuild everything."""
    run(tmp_path / "corpus", "--index", tmp_path / "i.sqlite")
    assert "0 files new or changed" in run(tmp_path / "corpus", "--index", tmp_path / "i.sqlite").stderr
    assert "2 files new or changed" in run(tmp_path / "corpus", "--index", tmp_path / "i.sqlite", "--rebuild").stderr


def test_command_says_when_nothing_is_found(run, tmp_path):
    """A question without an answer is no error."""
    result = run(tmp_path / "corpus", "--query", "zzzz qqqq")
    assert (result.exit_code, result.stdout) == (0, "nothing found\n")


def test_command_takes_the_corpus_of_the_settings(run, tmp_path, monkeypatch):
    """Without a path it is the corpus that the service answers from."""
    monkeypatch.setenv("LASTWORD_SERVICE_CORPUS", str(tmp_path / "corpus" / "a.md"))
    assert "1 documents in 1 files" in run().stderr


@pytest.mark.parametrize(
    ("corpus", "index", "message"),
    [("nowhere", "i.sqlite", "no folder or file"), ("corpus", "corpus/a.md", "not a database"), ("corpus", "corpus", "cannot")],
)
def test_command_explains_what_cannot_be_used(run, tmp_path, corpus, index, message):
    """One line, and an exit code that scripts see."""
    result = run(tmp_path / corpus, "--index", tmp_path / index)
    assert result.exit_code == 2
    assert message in result.stderr
    assert "Traceback" not in result.output


def test_command_explains_a_wrong_setting(run, tmp_path, monkeypatch):
    """A setting that is misspelt is named."""
    monkeypatch.setenv("LASTWORD_SERVICE_CORPSE", "x")
    result = run(tmp_path / "corpus")
    assert result.exit_code == 2
    assert "LASTWORD_SERVICE_CORPSE" in result.stderr
