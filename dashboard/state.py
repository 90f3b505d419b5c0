"""What a page is looking at: window, route, model tier, status. All of it lives in the URL, so a link shows the same view and Back works.

Owns the window presets, the width of their time buckets, and the parameters that every query shares. Knows no Streamlit: `filters` reads and writes the URL.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from math import ceil, floor

from msgspec import Struct

from dashboard import text
from dashboard.client import Params
from dashboard.queries import STEP_MS

PRESETS: dict[str, timedelta] = {
    "15m": timedelta(minutes=15),
    "1h": timedelta(hours=1),
    "6h": timedelta(hours=6),
    "24h": timedelta(hours=24),
    "7d": timedelta(days=7),
}
DEFAULT_WINDOW = "1h"
CUSTOM = "custom"
ALL = "all"

TARGET_BUCKETS = 72
_SECOND_MS = 1000
BUCKETS_MS = tuple(
    seconds * _SECOND_MS for seconds in (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200, 10_800, 21_600, 86_400)
)
STEPPED = timedelta(hours=6)
"""Windows of this length and longer begin and end with whole steps of the rollups, which answer for them without reading turns."""
MIN_CUSTOM = timedelta(seconds=10)
MAX_CUSTOM = timedelta(days=90)
EARLIEST, LATEST = datetime(1970, 1, 1, tzinfo=UTC), datetime(2200, 1, 1, tzinfo=UTC)
"""Windows lie between: the one before them has to be a time too."""


class View(Struct, frozen=True, kw_only=True):
    """A window of time and the filters on it. `live`: the window ends now and moves on."""

    start: datetime
    end: datetime
    live: bool
    bucket_ms: int
    route: str | None = None
    tier: str | None = None
    status: str | None = None

    @property
    def length(self) -> timedelta:
        """How long the window is."""
        return self.end - self.start

    @property
    def before(self) -> datetime:
        """Where the previous window of the same length begins."""
        return self.start - self.length

    @property
    def buckets(self) -> int:
        """How many time buckets the window has."""
        return ceil((self.end_ms - self.start_ms) / self.bucket_ms)

    @property
    def start_ms(self) -> int:
        """The start in milliseconds since 1970."""
        return round(self.start.timestamp() * 1000)

    @property
    def end_ms(self) -> int:
        """The end in milliseconds since 1970."""
        return round(self.end.timestamp() * 1000)

    @property
    def label(self) -> str:
        """The window in words."""
        return f"last {text.span(self.length)}" if self.live else f"window of {text.span(self.length)}"

    @property
    def filtered(self) -> bool:
        """Whether anything but the window narrows the view."""
        return any((self.route, self.tier, self.status))

    def params(self) -> dict[str, str | int | None]:
        """The parameters that the queries of the window share; `only` picks those that one takes."""
        return {
            "before": self.before.isoformat(),
            "start": self.start.isoformat(),
            "end": self.end.isoformat(),
            "bucket_ms": self.bucket_ms,
            "route": self.route,
            "tier": self.tier,
            "status": self.status,
        }


def only(names: frozenset[str], values: Params) -> Params:
    """The values that a query takes; engines refuse parameters that a statement does not name."""
    return {name: values[name] for name in names}


def bucket_for(length: timedelta) -> int:
    """The smallest bucket that keeps the window within TARGET_BUCKETS."""
    wanted_ms = length.total_seconds() * 1000 / TARGET_BUCKETS
    return next((bucket for bucket in BUCKETS_MS if bucket >= wanted_ms), BUCKETS_MS[-1])


def preset_view(
    preset: str,
    now: datetime,
    refresh_s: int,
    *,
    route: str | None = None,
    tier: str | None = None,
    status: str | None = None,
) -> View:
    """A window that ends now. Its end is rounded up to the refresh, so that all panels of one refresh ask for the same window; that of a long one to a whole step."""
    length = PRESETS.get(preset, PRESETS[DEFAULT_WINDOW])
    end = _rounded_up(now, STEP_MS if length >= STEPPED else refresh_s * _SECOND_MS)
    return View(start=end - length, end=end, live=True, bucket_ms=bucket_for(length), route=route, tier=tier, status=status)


def custom_view(
    start: datetime, end: datetime, *, route: str | None = None, tier: str | None = None, status: str | None = None
) -> View:
    """A window that stands still. A long one is widened to whole steps."""
    if end - start >= STEPPED:
        start, end = _rounded_down(start, STEP_MS), _rounded_up(end, STEP_MS)
    return View(start=start, end=end, live=False, bucket_ms=bucket_for(end - start), route=route, tier=tier, status=status)


def read_custom(start: str | None, end: str | None) -> tuple[datetime, datetime] | None:
    """The two ends of a custom window as they stand in a URL (ISO 8601); none where they make no window of a sensible length."""
    if not start or not end:
        return None
    try:
        first, last = datetime.fromisoformat(start), datetime.fromisoformat(end)
    except ValueError:
        return None
    first, last = (at if at.tzinfo else at.replace(tzinfo=UTC) for at in (first, last))
    sensible = MIN_CUSTOM <= last - first <= MAX_CUSTOM and first >= EARLIEST and last <= LATEST
    return (first, last) if sensible else None


def write_custom(start_ms: float, end_ms: float) -> tuple[str, str]:
    """The two ends of a custom window for a URL, to the second, at least MIN_CUSTOM apart and at most MAX_CUSTOM."""
    first = datetime.fromtimestamp(start_ms // 1000, UTC)
    last = datetime.fromtimestamp(ceil(end_ms / 1000), UTC)
    last = min(max(last, first + MIN_CUSTOM), first + MAX_CUSTOM)
    return f"{first:%Y-%m-%dT%H:%M:%SZ}", f"{last:%Y-%m-%dT%H:%M:%SZ}"


def _rounded_up(at: datetime, step_ms: int) -> datetime:
    ms = ceil(at.timestamp() * 1000 / step_ms) * step_ms
    return datetime.fromtimestamp(ms / 1000, UTC)


def _rounded_down(at: datetime, step_ms: int) -> datetime:
    ms = floor(at.timestamp() * 1000 / step_ms) * step_ms
    return datetime.fromtimestamp(ms / 1000, UTC)
