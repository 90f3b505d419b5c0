"""The collector's settings: `LASTWORD_COLLECTOR_*` in the environment."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from msgspec import Meta

from lastword.settings import Common, Port, load

Positive = Annotated[int, Meta(gt=0)]
Days = Annotated[int, Meta(ge=0, le=36_500)]
MIB = 1024 * 1024


class CollectorSettings(Common, frozen=True, kw_only=True):
    """Settings of the collector."""

    host: Annotated[str, Meta(description="Address to listen on.")] = "127.0.0.1"
    port: Annotated[Port, Meta(description="Port of OTLP/HTTP and of SQL.")] = 4318
    grpc_port: Annotated[Port, Meta(description="Port of OTLP/gRPC; 0 turns it off.")] = 4317
    tokens: Annotated[
        str, Meta(description="Bearer tokens of senders, separated by commas; where none is set, every sender is taken.")
    ] = ""
    max_body_bytes: Annotated[Positive, Meta(description="Largest request body after inflation, in bytes.")] = 64 * MIB
    max_requests: Annotated[Positive, Meta(description="OTLP requests in work at a time; beyond it the answer is 503.")] = 64
    decoders: Annotated[
        int,
        Meta(
            ge=0,
            le=64,
            description="Processes that decode large bodies of spans, started when they are needed, and one more while all are held up for seconds; 0 decodes in the collector's own.",
        ),
    ] = 1
    queue_rows: Annotated[Positive, Meta(description="Rows that wait for the writer; beyond it the answer is 503.")] = 200_000
    commit_rows: Annotated[Positive, Meta(description="Rows of one commit at most.")] = 20_000
    commit_wait_ms: Annotated[int, Meta(ge=0, description="How long a commit waits for company, in milliseconds.")] = 5
    publish_ms: Annotated[
        int,
        Meta(
            ge=50,
            description="How often rows are published to Parquet and to the catalog, in milliseconds; up to four times as long while rows come in about as fast as they can be stored.",
        ),
    ] = 3000
    hot_rows: Annotated[Positive, Meta(description="Rows that wait to be published; beyond it the answer is 503.")] = 5_000_000
    spans_days: Annotated[Days, Meta(description="How long spans are kept, in days; 0 for ever.")] = 30
    turns_days: Annotated[
        Days,
        Meta(description="How long turns, their tools, sources and attempts, and violations are kept, in days; 0 for ever."),
    ] = 365
    rollups_days: Annotated[Days, Meta(description="How long the counts by the minute are kept, in days; 0 for ever.")] = 1095
    content_days: Annotated[Days, Meta(description="How long captured prompts and answers are kept, in days; 0 for ever.")] = 30
    content_mib: Annotated[
        int,
        Meta(
            ge=0,
            description="Most that captured prompts and answers take on disk, in MiB; beyond it the oldest go. 0 is no bound.",
        ),
    ] = 1024
    max_content_chars: Annotated[Positive, Meta(description="Longest prompt or answer kept, in characters.")] = 65_536
    dedup_keys: Annotated[
        Positive, Meta(description="Keys of the latest rows kept in memory, 16 bytes each; older duplicates are found on disk.")
    ] = 1_000_000
    max_attributes: Annotated[Positive, Meta(description="Attributes kept of one span or event.")] = 256
    max_attribute_chars: Annotated[Positive, Meta(description="Longest attribute value kept, in characters.")] = 16_384
    spans_settle_ms: Annotated[
        int, Meta(ge=0, description="How long behind its root span a foreign trace becomes a turn, in milliseconds.")
    ] = 6_000
    spans_traces: Annotated[
        Positive, Meta(description="Foreign traces that wait to become turns; beyond it the oldest is let go.")
    ] = 100_000
    abandoned_grace_ms: Annotated[
        int, Meta(ge=0, description="How long behind its deadline a turn without terminal becomes abandoned, in milliseconds.")
    ] = 30_000
    memory_limit_mib: Annotated[Positive, Meta(description="Memory that DuckDB may use, in MiB.")] = 2048
    threads: Annotated[Positive, Meta(description="Threads that DuckDB may use.")] = 2
    sql_concurrency: Annotated[Positive, Meta(description="SQL queries at a time; further ones wait.")] = 4
    sql_waiting: Annotated[Positive, Meta(description="SQL queries that may wait; beyond it the answer is 503.")] = 64
    sql_max_rows: Annotated[Positive, Meta(description="Most rows of one SQL result.")] = 1_000_000
    sql_max_bytes: Annotated[
        Positive, Meta(description="Largest SQL result in memory, in bytes; beyond it the answer is 413.")
    ] = 256 * MIB
    sql_timeout_ms: Annotated[Positive, Meta(description="Longest time of one SQL query, in milliseconds.")] = 30_000
    lake_dsn: Annotated[
        str,
        Meta(
            description="PostgreSQL of a lake that several collectors are registered in, such as postgresql://user@host/database: docs/growth.md."
        ),
    ] = ""
    lake_path: Annotated[
        str, Meta(description="Folder of the lake's own files, the same for all of its collectors, and empty at first.")
    ] = ""
    lake_ms: Annotated[int, Meta(ge=200, description="How often segments are registered in the lake, in milliseconds.")] = 5000
    alerts: Annotated[bool, Meta(description="Whether alerts are watched for.")] = True
    alerts_settle_s: Annotated[
        int,
        Meta(
            ge=0,
            le=600,
            description="How long behind its end a minute is judged, in seconds: what is sent late has come by then.",
        ),
    ] = 20
    alerts_objective: Annotated[
        float,
        Meta(
            gt=0, lt=1, description="Share of turns that are promised to end whole: what tickets about a burnt budget rest on."
        ),
    ] = 0.95
    alerts_rules: Annotated[str, Meta(description="TOML file of rules of your own, see docs/alerts.md.")] = ""
    alerts_alertmanager_url: Annotated[str, Meta(description="Alertmanager to tell, such as http://127.0.0.1:9093.")] = ""
    alerts_webhook_url: Annotated[str, Meta(description="Address to send every change to, as a Standard Webhook.")] = ""
    alerts_webhook_secrets: Annotated[
        str, Meta(description="Secrets that sign webhooks (whsec_…), separated by commas; each of them signs.")
    ] = ""
    alerts_slack_url: Annotated[str, Meta(description="Incoming webhook of Slack, or of what reads the same.")] = ""
    dashboard_url: Annotated[str, Meta(description="The dashboard, for links in messages.")] = "http://127.0.0.1:8501"

    @property
    def store_path(self) -> Path:
        """The folder of the collector's files."""
        return self.data_path / "collector"


def load_settings() -> CollectorSettings:
    """The settings from the environment, checked."""
    return load(CollectorSettings, "collector")
