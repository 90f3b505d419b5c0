"""The service's settings: `LASTWORD_SERVICE_*` in the environment."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from msgspec import Meta

from lastword.errors import SettingsError
from lastword.settings import Common, Port, load
from service.access.static import parse_static_keys

Positive = Annotated[int, Meta(gt=0)]


class ServiceSettings(Common, frozen=True, kw_only=True):
    """Settings of the turn service."""

    host: Annotated[str, Meta(description="Address to listen on. Anything but loopback needs a key: see keys.md.")] = (
        "127.0.0.1"
    )
    port: Annotated[Port, Meta(description="Port to listen on.")] = 8000
    server: Annotated[
        Literal["uvicorn", "granian"], Meta(description="The HTTP server that the service runs on: `uvicorn` or `granian`.")
    ] = "uvicorn"
    public_url: Annotated[
        str, Meta(description="The address that clients reach the service at; by default http://host:port.")
    ] = ""
    api_keys: Annotated[
        str,
        Meta(
            description="Keys that callers may present as `Authorization: Bearer`, separated by commas, each with limits if wanted: "
            "`KEY;rate=60;tokens=100000` (turns a minute, tokens a day). Keys with scopes are made by `lastword keys create`."
        ),
    ] = ""
    key_cache_s: Annotated[
        float, Meta(ge=0, le=60, description="How long a checked key is remembered, in seconds: a revoked key stops within it.")
    ] = 2.0
    database_url: Annotated[
        str, Meta(description="SQLAlchemy URL of the service's database; by default SQLite in the data folder.")
    ] = ""
    collector_url: Annotated[
        str, Meta(description="Base address of the collector: spans and turn records go there as OTLP/HTTP.")
    ] = "http://127.0.0.1:4318"
    collector_token: Annotated[str, Meta(description="Bearer token for the collector, where it asks for one.")] = ""
    provider: Annotated[
        Literal["extractive", "anthropic"],
        Meta(description="Who writes the answers: `extractive` (embedded, no key) or `anthropic` (needs ANTHROPIC_API_KEY)."),
    ] = "extractive"
    anthropic_base_url: Annotated[str, Meta(description="Address of the Messages API; empty for the SDK's own.")] = ""
    routes_file: Annotated[str, Meta(description="Routes in TOML; by default the ones that come with the service.")] = ""
    tools: Annotated[
        str,
        Meta(
            description="Tools of your own: Python modules (`shop.tools`) or files (`tools.py`), separated by commas. A route names those it may use."
        ),
    ] = ""
    corpus: Annotated[
        str, Meta(description="Folder or file to answer from: Markdown, HTML, text, JSONL; by default the product's own docs.")
    ] = ""
    corpus_base_url: Annotated[
        str, Meta(description="Where documents without a URL of their own can be read; by default the service's own /docs/.")
    ] = ""
    pace_ms: Annotated[int, Meta(ge=0, description="Pause between pieces of an extractive answer, in milliseconds.")] = 25
    faults: Annotated[
        str,
        Meta(description="Faults that the extractive provider makes, with their rates: `cut_after_text=0.03,refusal=0.01`."),
    ] = ""
    faults_seed: Annotated[int, Meta(description="Seed of the faults' dice.")] = 1
    faults_by_request: Annotated[
        bool, Meta(description="Whether a request may ask the extractive provider for a fault by `metadata.fault`.")
    ] = True
    max_turns: Annotated[int, Meta(ge=1, le=1024, description="Turns at a time; beyond it a request is answered 503.")] = 128
    max_body_bytes: Annotated[Positive, Meta(description="Largest request body, in bytes.")] = 262_144
    max_message_chars: Annotated[Positive, Meta(description="Longest message, in characters.")] = 32_000
    max_log_bytes: Annotated[
        Positive, Meta(description="Largest log of one turn, in bytes; beyond it the turn is truncated.")
    ] = 4_194_304
    max_history_messages: Annotated[
        int, Meta(ge=0, description="Earlier messages of a conversation that the model is told.")
    ] = 20
    max_viewers: Annotated[Positive, Meta(description="Connections that may read one turn at a time.")] = 64
    heartbeat_ms: Annotated[Positive, Meta(description="Silence after which a heartbeat is sent, in milliseconds.")] = 15_000
    send_timeout_ms: Annotated[
        Positive,
        Meta(description="How long a viewer may take no byte of what it is sent before it is dropped, in milliseconds."),
    ] = 30_000
    disconnect_grace_ms: Annotated[
        int, Meta(ge=0, description="How long a turn goes on after its last viewer left, in milliseconds.")
    ] = 60_000
    log_retention_s: Annotated[
        Positive, Meta(description="How long the events of an ended turn are kept for replay, in seconds; then they are 410.")
    ] = 86_400
    turn_retention_s: Annotated[
        Positive, Meta(description="How long an ended turn, its terminal and its messages are kept, in seconds.")
    ] = 7_776_000
    log_memory_s: Annotated[
        Positive,
        Meta(description="How long the log of an ended turn stays in memory, in seconds; then it is read from the database."),
    ] = 300
    log_memory_bytes: Annotated[
        Positive, Meta(description="Memory for the logs of ended turns, in bytes; older ones are replayed from the database.")
    ] = 268_435_456
    drain_s: Annotated[float, Meta(gt=0, description="How long running turns may take to end at shutdown, in seconds.")] = 8.0
    cors_origins: Annotated[
        str,
        Meta(
            description="Origins whose pages may call from a browser, such as `https://app.example.com`, separated by commas; or `*`."
        ),
    ] = ""
    trust_traceparent: Annotated[
        bool,
        Meta(
            description="Whether a caller's `traceparent` is continued. Off, for a public service: a turn is a trace of its own, linked to it."
        ),
    ] = True
    capture_content: Annotated[
        bool, Meta(description="Whether prompts and answers are recorded in telemetry. Off: none of them leaves the service.")
    ] = False
    max_content_chars: Annotated[Positive, Meta(description="Longest captured prompt or answer, in characters.")] = 16_000
    trace_sample_ratio: Annotated[
        float, Meta(ge=0, le=1, description="Share of turns whose spans are sent. Records always are.")
    ] = 1.0
    try_page: Annotated[
        Literal["auto", "on", "off"],
        Meta(description="Whether the page at /try is served; `auto` serves it while `host` is loopback."),
    ] = "auto"
    dashboard_url: Annotated[
        str, Meta(description="Where people reach the dashboard, for links on the page at /try; empty for no links.")
    ] = ""

    @property
    def base_url(self) -> str:
        """The address that clients reach the service at, without a slash at its end."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return (self.public_url or f"http://{host}:{self.port}").rstrip("/")

    @property
    def try_page_on(self) -> bool:
        """Whether the page at /try is served."""
        return self.try_page == "on" or (self.try_page == "auto" and _is_loopback(self.host))

    @property
    def docs_url(self) -> str:
        """Where documents without a URL of their own can be read, with a slash at its end."""
        return (self.corpus_base_url or f"{self.base_url}/docs").rstrip("/") + "/"

    @property
    def corpus_path(self) -> Path:
        """The folder or file to answer from."""
        return Path(self.corpus).expanduser().absolute() if self.corpus else Path(__file__).parent.parent / "docs"

    @property
    def index_path(self) -> Path:
        """Where the full-text index lives."""
        return self.data_path / "service" / "index.sqlite"

    @property
    def sqlalchemy_url(self) -> str:
        """The URL of the database."""
        return self.database_url or f"sqlite:///{self.data_path / 'service' / 'turns.sqlite'}"

    @property
    def keys(self) -> tuple[str, ...]:
        """The static keys that callers may present."""
        return tuple(key.secret for key in parse_static_keys(self.api_keys))

    @property
    def tool_modules(self) -> tuple[str, ...]:
        """The modules and files that hold tools of the operator's own."""
        return tuple(name.strip() for name in self.tools.split(",") if name.strip())

    @property
    def origins(self) -> tuple[str, ...]:
        """Whose pages may call from a browser."""
        return parse_origins(self.cors_origins)

    @property
    def on_loopback(self) -> bool:
        """Whether only this machine can reach the service."""
        return _is_loopback(self.host)


def load_settings() -> ServiceSettings:
    """The settings from the environment, checked.

    Raises:
        SettingsError: a setting is wrong.
    """
    settings = load(ServiceSettings, "service")
    parse_static_keys(settings.api_keys)
    parse_origins(settings.cors_origins)
    return settings


def parse_origins(text: str) -> tuple[str, ...]:
    """The origins of a list with commas, or `*` alone.

    Raises:
        SettingsError: an entry is no origin, such as one with a path.
    """
    origins = tuple(part.strip() for part in text.split(",") if part.strip())
    for origin in origins:
        parts = urlsplit(origin)
        exact = parts.scheme in {"http", "https"} and bool(parts.netloc) and origin == f"{parts.scheme}://{parts.netloc}"
        if not (exact and "*" not in origin and "@" not in origin) and origins != ("*",):
            raise SettingsError(
                f"LASTWORD_SERVICE_CORS_ORIGINS: {origin!r} is no origin such as https://app.example.com, nor * alone"
            )
    return origins


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
