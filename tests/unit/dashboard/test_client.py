from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime

import httpx2
import pyarrow as pa
import pytest

from dashboard.client import (
    Collector,
    CollectorBusy,
    CollectorUnreachable,
    QueryFailed,
    QueryTimedOut,
    UnreadableAnswer,
)
from dashboard.settings import DashboardSettings

TABLE = pa.table({"turns": [3]})


def stream(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()


def answering(answer: Callable[[httpx2.Request], httpx2.Response]) -> Collector:
    return Collector(DashboardSettings(), transport=httpx2.MockTransport(answer))


def test_query_sends_its_parameters_apart_from_its_text() -> None:
    """Values are bound by the engine; the text goes out as it stands in the file."""
    seen: list[dict[str, object]] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        seen.append(json.loads(request.content))
        return httpx2.Response(200, content=stream(TABLE))

    result = answering(answer).query("SELECT $a", {"a": "x'"})
    assert result.rows == [{"turns": 3}]
    assert not result.truncated
    assert (seen[0]["sql"], seen[0]["params"], seen[0]["format"]) == ("SELECT $a", {"a": "x'"}, "arrow")
    assert seen[0]["maxRows"] == DashboardSettings().max_rows


def test_cut_result_says_so() -> None:
    """The row limit is visible."""
    collector = answering(lambda _: httpx2.Response(200, content=stream(TABLE), headers={"Lastword-Truncated": "true"}))
    assert collector.query("SELECT 1", {}).truncated


@pytest.mark.parametrize(
    ("status", "kind"), [(400, QueryFailed), (403, QueryFailed), (408, QueryTimedOut), (503, CollectorBusy)]
)
def test_problem_becomes_its_error(status: int, kind: type[QueryFailed]) -> None:
    """Each status that the surface names is an error of its own, with what the collector said."""
    problem = {"type": "about:blank", "title": "No", "status": status, "detail": "because"}
    with pytest.raises(kind, match="No: because") as caught:
        answering(lambda _: httpx2.Response(status, json=problem)).query("SELECT 1", {})
    assert caught.value.status == status


def test_failure_without_a_problem_document_is_still_a_failure() -> None:
    """A proxy's page or an empty body does not hide the status."""
    with pytest.raises(QueryFailed, match="HTTP 502"):
        answering(lambda _: httpx2.Response(502, content=b"<html>")).query("SELECT 1", {})


def test_answer_that_is_no_arrow_stream_is_unreadable() -> None:
    """Success with the wrong bytes is a failure, never an empty table."""
    with pytest.raises(UnreadableAnswer):
        answering(lambda _: httpx2.Response(200, content=b"[]")).query("SELECT 1", {})


@pytest.mark.parametrize(
    "error", [httpx2.ConnectError("refused"), httpx2.ReadTimeout("slow"), httpx2.RemoteProtocolError("cut")]
)
def test_network_failure_is_unreachable(error: httpx2.HTTPError) -> None:
    """Whatever the network did, the page learns one thing: there is no answer."""

    def answer(_: httpx2.Request) -> httpx2.Response:
        raise error

    with pytest.raises(CollectorUnreachable):
        answering(answer).query("SELECT 1", {})


def test_status_reads_what_it_knows_and_ignores_the_rest() -> None:
    """New fields of the collector do not break the badge."""
    body = {"newestTurnAt": "2026-11-24T12:00:00Z", "ingestLagMs": 12.5, "turns": 4, "newField": {}}
    status = answering(lambda _: httpx2.Response(200, json=body)).status()
    assert status.newest_turn_at is not None
    assert status.turns == 4


def test_newest_turn_is_read_from_any_spelling() -> None:
    """An age or a time: both say when the newest turn ended; neither says that nothing is stored."""
    now = datetime(2026, 11, 24, 12, 0, 10, tzinfo=UTC)
    bodies: list[dict[str, object]] = [
        {"newestEndedAgeMs": 10_000},
        {"newestEndedAt": "2026-11-24T12:00:00Z"},
        {"newestTurnAt": "2026-11-24T12:00:00Z"},
    ]
    for body in bodies:
        status = answering(lambda _, body=body: httpx2.Response(200, json=body)).status()
        assert status.newest(now) == datetime(2026, 11, 24, 12, tzinfo=UTC)
    assert answering(lambda _: httpx2.Response(200, json={"turns": 0})).status().newest(now) is None


def test_status_of_a_wrong_shape_is_unreadable() -> None:
    """A wrong type is an error, not a fresh badge."""
    with pytest.raises(UnreadableAnswer):
        answering(lambda _: httpx2.Response(200, json={"turns": "many"})).status()
