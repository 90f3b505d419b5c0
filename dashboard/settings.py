"""The dashboard's settings.

Owns every limit and interval of the pages, with its unit in its name. Knows no Streamlit.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Annotated

from msgspec import Meta

from lastword.settings import Common, Port, load

SECTION = "dashboard"
Positive = Annotated[int, Meta(ge=1)]


class DashboardSettings(Common, frozen=True, kw_only=True):
    """Where the dashboard listens, what it reads, and how much of it."""

    host: Annotated[
        str,
        Meta(description="Address to listen on. Anything but loopback needs a login, or `OPEN_TO_NETWORK`: see dashboard.md."),
    ] = "127.0.0.1"
    port: Annotated[Port, Meta(description="Port to listen on.")] = 8501
    public_url: Annotated[
        str,
        Meta(
            description="The address that people reach the dashboard at; by default http://host:port. Behind a proxy it has to be set."
        ),
    ] = ""
    open_to_network: Annotated[
        bool, Meta(description="Whether to listen beyond loopback without a login. Whoever reaches the port sees everything.")
    ] = False
    oidc_issuer: Annotated[
        str, Meta(description="Address of an OpenID Connect provider, such as `https://accounts.google.com`; turns login on.")
    ] = ""
    oidc_client_id: Annotated[str, Meta(description="The client id that the provider gave.")] = ""
    oidc_client_secret: Annotated[str, Meta(description="The client secret that the provider gave.")] = ""
    oidc_allowed: Annotated[
        str,
        Meta(
            description="Who may enter: e-mail addresses and domains (`ann@example.com,@example.org`), separated by commas; `*` for whomever the provider lets in."
        ),
    ] = ""
    oidc_verified_email: Annotated[
        bool, Meta(description="Whether an e-mail address counts only where the provider says that it is verified.")
    ] = True
    oidc_session_h: Annotated[Positive, Meta(description="How long a login lasts, in hours.")] = 12
    oidc_cookie_secret: Annotated[
        str,
        Meta(
            description="What signs the login's cookies, 32 characters or more; by default made once and kept in the data folder."
        ),
    ] = ""
    collector_url: Annotated[str, Meta(description="Base address of the collector.")] = "http://127.0.0.1:4318"
    service_url: Annotated[str, Meta(description="Base address of the turn service, for links to a turn's event log.")] = (
        "http://127.0.0.1:8000"
    )
    query_timeout_ms: Annotated[Positive, Meta(description="Longest that one query may run.")] = 10_000
    status_timeout_ms: Annotated[Positive, Meta(description="Longest to wait for the collector's status.")] = 2_000
    max_rows: Annotated[Positive, Meta(description="Most rows that one query of a page may return.")] = 5_000
    max_parallel_queries: Annotated[Positive, Meta(description="Connections to the collector at one time.")] = 8
    max_cached_results: Annotated[Positive, Meta(description="Query results held in memory.")] = 128
    cache_s: Annotated[Positive, Meta(description="How long a query's result is used again.")] = 10
    offers_cache_s: Annotated[
        Positive, Meta(description="How long the routes and tiers that the filters offer are used again.")
    ] = 60
    refresh_s: Annotated[Positive, Meta(description="Seconds between two refreshes of a window that ends now.")] = 10
    fresh_lag_ms: Annotated[Positive, Meta(description="Ingest lag above which the badge says that the data is late.")] = 5_000
    stale_after_s: Annotated[Positive, Meta(description="Seconds without a new turn after which the badge says quiet.")] = 120
    max_routes: Annotated[Positive, Meta(description="Routes drawn as small multiples; the rest is named in the table.")] = 12
    max_listed_turns: Annotated[Positive, Meta(description="Rows of the turn table on the Overview.")] = 20
    turns_page: Annotated[Positive, Meta(description="Rows of a page of the list of turns.")] = 50
    max_turn_pages: Annotated[Positive, Meta(description="Pages of the list of turns that can be turned.")] = 200
    max_query_chars: Annotated[Positive, Meta(description="Longest query of the SQL page, in characters.")] = 4_000
    max_query_rows: Annotated[Positive, Meta(description="Most rows of a result on the SQL page.")] = 10_000
    max_shown_rows: Annotated[Positive, Meta(description="Rows of a result that the SQL page shows; its files hold all.")] = 200
    max_cached_asked: Annotated[Positive, Meta(description="Results of the SQL page held in memory.")] = 8
    max_slices: Annotated[Positive, Meta(description="Slices named as different.")] = 6
    max_places: Annotated[Positive, Meta(description="Pairs of route and tier drawn on Partials.")] = 16
    max_tools: Annotated[Positive, Meta(description="Tools drawn on Evidence.")] = 12
    max_hosts: Annotated[Positive, Meta(description="Hosts of sources listed on Evidence.")] = 15
    max_firing: Annotated[Positive, Meta(description="Firing alerts named on the Overview.")] = 5
    max_alerts: Annotated[Positive, Meta(description="Episodes listed on Alerts.")] = 60
    max_series: Annotated[Positive, Meta(description="Series, silences and events of one alert that Alerts lists.")] = 100
    max_spans: Annotated[Positive, Meta(description="Spans drawn for one turn.")] = 400
    max_found: Annotated[Positive, Meta(description="Turns listed for a search.")] = 25
    max_sources: Annotated[Positive, Meta(description="Sources shown as cards for one turn.")] = 60


@lru_cache(maxsize=1)
def settings() -> DashboardSettings:
    """The settings of this process, read once from the environment.

    Raises:
        SettingsError: a variable is unknown or unusable.
    """
    return load(DashboardSettings, SECTION)
