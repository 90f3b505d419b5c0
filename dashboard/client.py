"""The one way to data: the collector's SQL surface and its status, over HTTP.

Owns the errors that a panel can show. Knows no Streamlit and no SQL. Invariant: a query either returns a whole table or raises; a failure is never an empty table.

DashboardError
  CollectorUnreachable   no answer: not running, refused, cut, or too slow to say anything
  QueryFailed            the collector answered with a problem
    QueryTimedOut        the query ran into its time limit
    CollectorBusy        too many queries at once; worth a retry
  UnreadableAnswer       an answer that is not what was agreed
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

import httpx2
import msgspec
import pyarrow as pa

from dashboard import health
from dashboard.health import Sample
from dashboard.queries import EVER, Reach
from dashboard.settings import DashboardSettings

Params = Mapping[str, str | int | float | bool | None]

TRUNCATED = "Lastword-Truncated"
_ANSWER_SLACK_S = 2.0  # the collector's own limit should speak first: it says why


class DashboardError(Exception):
    """Base of what the dashboard raises. Its text is safe to show on a page."""


class CollectorUnreachable(DashboardError):
    """No answer from the collector."""


class QueryFailed(DashboardError):
    """The collector refused the query or failed at it."""

    def __init__(self, status: int, title: str, detail: str) -> None:
        super().__init__(f"{title}: {detail}" if detail else title)
        self.status = status
        self.title = title
        self.detail = detail


class QueryTimedOut(QueryFailed):
    """The query ran into its time limit."""


class CollectorBusy(QueryFailed):
    """Too many queries at once."""


class UnreadableAnswer(DashboardError):
    """An answer that is not what was agreed."""


class Result(msgspec.Struct, frozen=True):
    """What a query returned. `truncated`: the row limit cut it."""

    table: pa.Table
    truncated: bool = False

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The rows as dictionaries; results of pages are small."""
        rows: list[dict[str, Any]] = self.table.to_pylist()
        return rows


class CollectorStatus(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What the collector says of itself; only what the pages use."""

    newest_turn_at: datetime | None = None
    newest_ended_at: datetime | None = None
    newest_ended_age_ms: float | None = None
    ingest_lag_ms: float | None = None
    turns: int | None = None
    spans: int | None = None
    queue_depth: int | None = None
    started_at: datetime | None = None
    version: str | None = None

    def newest(self, now: datetime) -> datetime | None:
        """When the newest stored turn ended, from whichever of its spellings the collector sends; none where nothing is stored."""
        if self.newest_ended_age_ms is not None:
            return now - timedelta(milliseconds=self.newest_ended_age_ms)
        return self.newest_ended_at or self.newest_turn_at


class _Problem(msgspec.Struct):
    title: str = ""
    detail: str = ""


_BY_STATUS: Mapping[int, type[QueryFailed]] = {408: QueryTimedOut, 503: CollectorBusy}


class Collector:
    """A collector's read side. Thread-safe: one connection pool for all sessions."""

    def __init__(self, settings: DashboardSettings, transport: httpx2.BaseTransport | None = None) -> None:
        self._settings = settings
        self._http = httpx2.Client(
            base_url=settings.collector_url.rstrip("/"),
            timeout=settings.query_timeout_ms / 1000 + _ANSWER_SLACK_S,
            limits=httpx2.Limits(max_connections=settings.max_parallel_queries),
            trust_env=False,  # the collector is named by its own setting, never reached through a proxy of the environment
            transport=transport,
        )

    def query(self, sql: str, params: Params, *, max_rows: int | None = None, reach: Reach = EVER) -> Result:
        """The rows of one statement, at most `max_rows` or as many as the settings say. What is stored of other times than its reach is left unread.

        Raises:
            DashboardError: as drawn above.
        """
        body = {
            "sql": sql,
            "params": dict(params),
            "format": "arrow",
            "maxRows": max_rows or self._settings.max_rows,
            "timeoutMs": self._settings.query_timeout_ms,
            "since": reach.since,
            "until": reach.until,
        }
        response = self._send(self._http.build_request("POST", "/v1/sql", json=body))
        if not response.is_success:
            raise _failure(response)
        try:
            with pa.ipc.open_stream(response.content) as reader:
                table = reader.read_all()
        except (pa.ArrowException, OSError) as error:
            raise UnreadableAnswer(f"the collector's answer is not an Arrow stream: {error}") from error
        return Result(table, truncated=response.headers.get(TRUNCATED, "").lower() == "true")

    def status(self) -> CollectorStatus:
        """How fresh the data is.

        Raises:
            DashboardError: as drawn above.
        """
        response = self._get("/v1/status")
        if not response.is_success:
            raise _failure(response)
        try:
            return msgspec.json.decode(response.content, type=CollectorStatus)
        except msgspec.MsgspecError as error:
            raise UnreadableAnswer(f"the collector's status cannot be read: {error}") from error

    def metrics(self) -> list[Sample]:
        """What the collector counts of itself.

        Raises:
            DashboardError: as drawn above.
        """
        response = self._get("/metrics")
        if not response.is_success:
            raise _failure(response)
        try:
            return health.read(response.text)
        except ValueError as error:
            raise UnreadableAnswer(f"the collector's metrics cannot be read: {error}") from error

    def ready(self) -> bool:
        """Whether the collector takes data; not while it is being stopped.

        Raises:
            DashboardError: it does not answer, or says neither.
        """
        response = self._get("/health/ready")
        if not response.is_success and response.status_code != httpx2.codes.SERVICE_UNAVAILABLE:
            raise _failure(response)
        return bool(response.is_success)

    def close(self) -> None:
        """Closes the connections."""
        self._http.close()

    def _get(self, path: str) -> httpx2.Response:
        """What the collector says of itself: it should be quick."""
        return self._send(self._http.build_request("GET", path, timeout=self._settings.status_timeout_ms / 1000))

    def _send(self, request: httpx2.Request) -> httpx2.Response:
        try:
            return self._http.send(request)
        except httpx2.TimeoutException as error:
            raise CollectorUnreachable(f"the collector at {self._settings.collector_url} did not answer in time") from error
        except httpx2.HTTPError as error:
            raise CollectorUnreachable(f"no collector at {self._settings.collector_url}: {error}") from error


def _failure(response: httpx2.Response) -> QueryFailed:
    try:
        problem = msgspec.json.decode(response.content, type=_Problem)
    except msgspec.MsgspecError:  # a proxy's page, or a bare status: the status alone still says something
        problem = _Problem()
    kind = _BY_STATUS.get(response.status_code, QueryFailed)
    return kind(response.status_code, problem.title or f"HTTP {response.status_code}", problem.detail)
