"""The index: what it finds, how it is brought up to date, and that it goes on answering meanwhile."""

import json
import os
import sqlite3
import threading
import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from service.retrieval import database, refresh
from service.retrieval.index import MAX_HITS, CorpusError, IndexUnavailable, KnowledgeIndex

BASE = "http://127.0.0.1:8000/docs"


@pytest.fixture
def corpus(tmp_path):
    """Three small documents in a folder."""
    folder = tmp_path / "corpus"
    (folder / "sub dir").mkdir(parents=True)
    (folder / "partial.md").write_text(
        "# Partial streams\n\nA stream is partial when it was cut.\n\n## Causes\n\nProxies time out.\n"
    )
    (folder / "sub dir" / "retry.html").write_text("<title>Retries</title><p>Nothing is retried after visible text.</p>")
    (folder / "note.txt").write_text("Heartbeats keep a connection from looking idle.")
    return folder


@pytest.fixture
def index(tmp_path):
    made = KnowledgeIndex(tmp_path / "data" / "index.sqlite", BASE)
    yield made
    made.close()


def urls(index, query, limit=5):
    return [hit.url for hit in index.search(query, limit)]


def lines(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def wait_until(condition, bound_s=10):
    end = time.monotonic() + bound_s
    while not condition():
        assert time.monotonic() < end, "what the test waits for did not happen"
        threading.Event().wait(0.001)


def test_search_finds_by_title_text_and_stem(index, corpus):
    """A hit has an absolute URL with its anchor, the titles, the text and a score; forms of a word are one word."""
    index.refresh(corpus)
    hit = index.search("why do proxies timing out cause it?")[0]
    assert hit.url == f"{BASE}/partial.md#causes"
    assert hit.title == "Partial streams: Causes"
    assert hit.text == "Proxies time out."
    assert hit.score > 0
    assert urls(index, "retrying") == [f"{BASE}/sub%20dir/retry.html"]
    assert urls(index, "heartbeat") == [f"{BASE}/note.txt"]


def test_search_is_empty_where_nothing_is_known(index, corpus):
    """Unknown words, stop words, nothing at all, no room for hits, or an index that was never built: no hit."""
    assert index.search("stream") == ()
    index.refresh(corpus)
    for query in ("zzzz qqqq", "what is it?", "", " ?! ", "\x00"):
        assert index.search(query) == ()
    assert index.search("stream", 0) == ()
    assert index.search("stream", -1) == ()


def test_search_drops_what_answers_next_to_nothing(index, tmp_path):
    """One common word of a long question that the corpus does not know is no evidence; the same word alone is."""
    index.refresh(lines(tmp_path / "c.jsonl", [{"text": f"the cup number{n}"} for n in range(20)]))
    assert index.search("who won the football world cup of nineteen ninety eight in france") == ()
    assert len(index.search("cup")) == 5
    assert len(index.search("football cup number3")) == 1


def test_search_takes_one_word_of_three_and_not_one_of_four(index, tmp_path):
    """Where a single word is found, it must carry more of the question than several words need to."""
    index.refresh(lines(tmp_path / "c.jsonl", [{"text": f"alpha beta gamma{n} delta{n % 2}"} for n in range(200)]))
    assert len(index.search("gamma7 unknown words")) == 1
    assert index.search("gamma7 other unknown words") == ()
    assert len(index.search("gamma7 delta1 other unknown words", 1)) == 1


def test_hits_have_distinct_urls(index, tmp_path):
    """A document that owns many of the best passages is one hit, with its best passage first, and leaves room for others."""
    rows = [{"url": f"https://a.example/long#p{n}", "title": "Diabetes", "text": f"diabetes part{n}"} for n in range(60)]
    rows += [
        {"url": f"https://a.example/{n}", "title": "Other", "text": "diabetes among many other words " * 3} for n in range(3)
    ]
    report = index.refresh(lines(tmp_path / "c.jsonl", rows))
    assert (report.documents, report.passages) == (4, 63)
    hits = index.search("diabetes")
    assert len({hit.url.partition("#")[0] for hit in hits}) == len(hits) == 4
    assert hits[0].url.startswith("https://a.example/long#p")
    best = index.search("diabetes part7")[0]
    assert best.url == "https://a.example/long#p7"
    assert best.text.startswith("diabetes part7\n\n")


def test_hits_are_bounded(index, tmp_path):
    """Nobody gets more than the bound, whatever is asked for."""
    index.refresh(lines(tmp_path / "c.jsonl", [{"url": f"https://a.example/{n}", "text": "cup"} for n in range(60)]))
    assert len(index.search("cup", 1000)) == MAX_HITS


def test_titles_weigh_more_than_text(index, tmp_path):
    """The document about a thing comes before one that mentions it."""
    rows = [
        {"url": "https://a.example/about", "title": "Asthma", "text": "A disease of the lungs and of the airways in them."},
        {"url": "https://a.example/mention", "title": "Lungs", "text": "A disease of the lungs such as asthma."},
        *({"url": f"https://a.example/{n}", "title": "Else", "text": "Something else."} for n in range(9)),
    ]
    index.refresh(lines(tmp_path / "c.jsonl", rows))
    assert urls(index, "asthma") == ["https://a.example/about", "https://a.example/mention"]


def test_question_is_not_indexed(index, tmp_path):
    """A word that stands in the question only finds nothing."""
    index.refresh(lines(tmp_path / "c.jsonl", [{"url": "https://a.example", "question": "xylophone?", "answer": "Wood."}]))
    assert index.search("xylophone") == ()
    assert urls(index, "wood") == ["https://a.example"]


def test_refresh_reads_only_what_changed(index, corpus):
    """A changed file is read again, a new one added, a removed one dropped, the rest left alone."""
    first = index.refresh(corpus)
    assert (first.files, first.documents, first.passages, first.changed, first.removed) == (3, 3, 4, 3, 0)
    again = index.refresh(corpus)
    assert (again.changed, again.removed, again.passages) == (0, 0, 4)
    (corpus / "note.txt").write_text("Heartbeats keep a connection from looking dead.")  # as many characters as before
    (corpus / "new.md").write_text("# Zebra\n\nStripes.\n")
    (corpus / "sub dir" / "retry.html").unlink()
    third = index.refresh(corpus)
    assert (third.files, third.changed, third.removed) == (3, 2, 1)
    assert urls(index, "dead") == [f"{BASE}/note.txt"]
    assert urls(index, "zebra") == [f"{BASE}/new.md"]
    assert index.search("idle") == ()
    assert index.search("retried") == ()


def test_build_reads_everything_again(index, corpus):
    """A build leaves what a refresh would, from nothing."""
    index.refresh(corpus)
    report = index.build(corpus)
    assert (report.changed, report.removed, report.passages) == (3, 0, 4)
    assert urls(index, "proxies") == [f"{BASE}/partial.md#causes"]


def test_refresh_reports_what_it_skipped(index, corpus, monkeypatch):
    """Bad files and lines are counted, the first are named, and the others are in the index."""
    monkeypatch.setattr(refresh, "MAX_SKIPPED_KEPT", 3)
    (corpus / "bad.md").write_bytes(b"\xff\xff")
    lines(corpus / "c.jsonl", [{"no": "text"}] * 9 + [{"text": "zebra"}])
    report = index.refresh(corpus)
    assert (report.files, report.skipped_count, len(report.skipped)) == (5, 10, 3)
    assert [item.where for item in report.skipped] == ["bad.md", "c.jsonl:1", "c.jsonl:2"]
    assert urls(index, "zebra") == [f"{BASE}/c.jsonl?line=10"]


def test_refresh_leaves_out_hidden_files_pipes_and_dangling_links(index, corpus):
    """What is hidden, or no file, is no part of the corpus, and nothing waits for it."""
    (corpus / ".git").mkdir()
    (corpus / ".git" / "a.md").write_text("zebra")
    (corpus / ".b.md").write_text("zebra")
    (corpus / "gone.md").symlink_to(corpus / "nowhere.md")
    os.mkfifo(corpus / "pipe.md")
    report = index.refresh(corpus)
    assert (report.files, report.skipped_count) == (3, 0)


def test_refresh_drops_a_file_that_became_unreadable(index, corpus, monkeypatch):
    """What cannot be read any more is reported, and leaves the index."""
    index.refresh(corpus)
    fingerprint = refresh._fingerprint

    def refuse(path):
        if path.name == "note.txt":
            raise PermissionError(13, "Permission denied", str(path))
        return fingerprint(path)

    monkeypatch.setattr(refresh, "_fingerprint", refuse)
    report = index.refresh(corpus)
    assert (report.files, report.removed) == (2, 1)
    assert [(item.where, item.why) for item in report.skipped] == [("note.txt", "PermissionError: Permission denied")]
    assert index.search("heartbeat") == ()


def test_refresh_tells_its_progress(index, corpus):
    """The callback counts files up to all of them."""
    steps = []
    index.refresh(corpus, lambda done, total: steps.append((done, total)))
    assert steps == [(1, 3), (2, 3), (3, 3)]


def test_corpus_that_is_missing_empty_or_too_large_is_refused(index, corpus, tmp_path, monkeypatch):
    """The message says what is wrong, and the index stays as it was."""
    index.refresh(corpus)
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "a.pdf").write_text("x")
    for bad in (tmp_path / "nowhere", tmp_path / "empty", tmp_path / "empty" / "a.pdf"):
        with pytest.raises(CorpusError, match=bad.name):
            index.refresh(bad)
    monkeypatch.setattr(refresh, "MAX_FILES", 2)
    with pytest.raises(CorpusError, match="more than 2 files"):
        index.build(corpus)
    assert urls(index, "heartbeat") == [f"{BASE}/note.txt"]


def test_stats_count_what_is_there(index, corpus):
    """Before the first build there is nothing; afterwards the corpus and its numbers."""
    assert (index.stats().corpus, index.stats().passages) == (None, 0)
    index.refresh(corpus)
    stats = index.stats()
    assert (stats.corpus, stats.files, stats.documents, stats.passages) == (corpus, 3, 3, 4)


def test_search_answers_from_the_old_state_until_a_refresh_is_done(index, corpus):
    """A reader in the middle of a build sees the index as it was; a build that fails leaves it so."""
    index.refresh(corpus)
    (corpus / "new.md").write_text("# Zebra\n\nStripes.\n")
    seen = []

    def look(done, total):
        seen.append((urls(index, "heartbeat"), urls(index, "zebra")))
        if done == total:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        index.build(corpus, look)
    assert seen == [([f"{BASE}/note.txt"], [])] * 4
    assert urls(index, "zebra") == []
    index.refresh(corpus)
    assert urls(index, "zebra") == [f"{BASE}/new.md"]


def test_index_opens_while_another_refreshes(index, corpus, tmp_path):
    """A service can start, and search, in the middle of a build from the command line."""
    index.refresh(corpus)

    def start_another(done, total):
        other = KnowledgeIndex(tmp_path / "data" / "index.sqlite", BASE)
        assert urls(other, "heartbeat") == [f"{BASE}/note.txt"]
        other.close()

    index.build(corpus, start_another)


def test_second_refresh_gives_up_where_the_first_does_not_end(index, corpus, monkeypatch):
    """A writer that waits too long for another says so."""
    monkeypatch.setattr(database, "WRITER_WAIT_S", 0.05)
    with database.writing(index._path), pytest.raises(IndexUnavailable, match="locked"):
        index.refresh(corpus)


def test_search_from_many_threads_uses_few_connections(tmp_path, corpus, monkeypatch):
    """Sixty-four threads share four connections, and all are answered alike."""
    opened = []
    connect = sqlite3.connect
    monkeypatch.setattr(database.sqlite3, "connect", lambda *a, **k: opened.append(1) or connect(*a, **k))
    index = KnowledgeIndex(tmp_path / "index.sqlite", BASE, max_readers=4)
    index.refresh(corpus)
    opened.clear()
    answers, gate = [], threading.Barrier(64)

    def ask():
        gate.wait(30)
        answers.append(tuple(urls(index, "visible text") for _ in range(5)))

    threads = [threading.Thread(target=ask) for _ in range(64)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert set(map(str, answers)) == {str(([f"{BASE}/sub%20dir/retry.html"],) * 5)}
    assert len(answers) == 64
    assert len(opened) <= 4
    index.close()
    assert index._readers._idle == []


def test_search_gives_up_where_every_reader_stays_busy(tmp_path, monkeypatch):
    """The wait for a connection has an end."""
    monkeypatch.setattr(database, "READER_WAIT_S", 0.05)
    index = KnowledgeIndex(tmp_path / "index.sqlite", BASE, max_readers=1)
    with index._readers.reading(), pytest.raises(IndexUnavailable, match="busy"):
        index.search("stream")
    assert index.search("stream") == ()
    index.close()


def test_reader_that_comes_free_goes_to_whoever_waited_longest(tmp_path):
    """Under load no search is overtaken by those that came later, not even by the thread that has just let go."""
    pool = database.ReaderPool(tmp_path / "index.sqlite", 1)
    order = []

    def ask(number):
        with pool.reading():
            order.append(number)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(8)]
    with pool.reading():
        for number, thread in enumerate(threads, 1):
            thread.start()
            wait_until(lambda number=number: len(pool._waiters) == number)
    ask("late")
    for thread in threads:
        thread.join(10)
    assert order == [*range(8), "late"]
    pool.close()


def test_closed_index_refuses_at_once(index):
    """After the end of the service a late search gets an error, not a wait; closing twice is no error."""
    index.close()
    index.close()
    with pytest.raises(IndexUnavailable, match="closed"):
        index.search("stream")


def test_search_in_progress_outlives_the_close(index):
    """A connection in use is closed by whoever uses it, when it is done."""
    with index._readers.reading() as connection:
        index.close()
        assert connection.execute("select count(*) from files").fetchone() == (0,)
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        connection.execute("select 1")


def test_connection_that_failed_is_not_used_again(index):
    """An error in one search leaves the place of its connection free for a fresh one."""
    for _ in range(database.MAX_READERS + 1):
        with pytest.raises(IndexUnavailable, match="no such table"), index._readers.reading() as connection:
            connection.execute("select * from nowhere")
    assert index.search("stream") == ()


def test_index_of_another_version_is_emptied(tmp_path, corpus):
    """The index is a cache: what another version made is built again."""
    path = tmp_path / "index.sqlite"
    old = sqlite3.connect(path)
    old.executescript(
        "create virtual table words using fts5 (text); create table files (old text); insert into files values ('x');"
        "pragma user_version = 1"
    )
    old.close()
    index = KnowledgeIndex(path, BASE)
    assert index.refresh(corpus).changed == 3
    assert urls(index, "heartbeat") == [f"{BASE}/note.txt"]
    index.close()


@pytest.mark.parametrize("version", [0, database.VERSION])
def test_file_of_something_else_is_not_touched(tmp_path, version):
    """A database of another program, or no database at all, is refused and stays as it is."""
    foreign, text = tmp_path / "turns.sqlite", tmp_path / "text.sqlite"
    other = sqlite3.connect(foreign)
    other.executescript(f"create table turns (a); insert into turns values (1); pragma user_version = {version}")
    other.close()
    text.write_text("no database, but long enough to be looked at" * 20)
    for path, message in ((foreign, "something else"), (text, "not a database"), (tmp_path / "text.sqlite" / "x", "made")):
        before = path.read_bytes() if path.is_file() else b""
        with pytest.raises(IndexUnavailable, match=message):
            KnowledgeIndex(path, BASE)
        assert (path.read_bytes() if path.is_file() else b"") == before


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200)
@given(query=st.text() | st.text(alphabet='"*()^:+-AND ORNOTEAR{}'), limit=st.integers(-1, 30))
def test_search_takes_any_text(index, corpus, query, limit):
    """No text is syntax: whatever is asked, there are hits or none, and never an error."""
    index.refresh(corpus)
    hits = index.search(query, limit)
    assert len(hits) <= max(0, limit)
