"""A panel: a heading and what stands under it, which may be loading, there, empty or failed, and fails alone.

This is the pages' boundary: the one place with a broad `except`. What failed is shown as failed with a short id that is also in the log, and with a retry;
it is never shown as zero.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable, Sequence

import streamlit as st

from dashboard import data, verbatim
from dashboard.charts.base import Chart, Row
from dashboard.client import CollectorBusy, CollectorUnreachable, DashboardError, QueryTimedOut
from dashboard.components import show
from dashboard.login import NotLoggedIn
from dashboard.markup import table

logger = logging.getLogger(__name__)

DEMO = "make demo"


class Empty(Exception):
    """There is nothing to show, and that is no failure. `command` is what to run to change it."""

    def __init__(self, why: str, command: str | None = None) -> None:
        super().__init__(why)
        self.why = why
        self.command = command


def panel(
    key: str, heading: str, body: Callable[[], None], *, height_px: int = 200, note: str = "", refresh_s: int | None = None
) -> None:
    """Draws a panel in a fragment of its own, so that it loads, fails and refreshes without its neighbours.

    `refresh_s` is set only where the window ends now.
    """

    @st.fragment(run_every=refresh_s, parallel=True)
    def draw() -> None:
        with st.container(key=f"panel-{key}", gap="xsmall"):
            if heading:
                st.markdown(f"## {heading}", anchors=False)
            if note:
                st.caption(note)
            guarded(key, body, height_px)

    draw()


def guarded(key: str, body: Callable[[], None], height_px: int = 120) -> bool:
    """Runs a panel's body: a skeleton while it works, then what it drew, or why it did not. False where it failed."""
    try:
        with st.skeleton(height_px):
            body()
    except Empty as empty:
        nothing(key, empty)
    except Exception as error:  # noqa: BLE001  # the page's boundary: a panel fails alone
        failed(key, error)
        return False
    return True


def nothing(key: str, empty: Empty) -> None:
    """Says why there is nothing, and what to run."""
    with st.container(border=True, key=None, gap="xsmall"):
        st.markdown(empty.why)
        if empty.command:
            show(verbatim.code(empty.command), key=f"command-{key}")


def failed(key: str, error: Exception) -> None:
    """Says that a panel failed, why as far as it is safe to say, and offers a retry."""
    mark = secrets.token_hex(3)
    if isinstance(error, DashboardError):
        logger.warning("panel %s failed (%s): %s", key, mark, error)
    else:
        logger.error("panel %s failed (%s)", key, mark, exc_info=error)
    why = str(error) if isinstance(error, DashboardError) else "This panel has a bug; the log has its trace."
    with st.container(border=True, key=f"failed-{key}", gap="xsmall"):
        st.markdown(f":red-badge[failed] **{_headline(error)}**")
        st.caption(f"{why}  \nError id `{mark}`: the dashboard's log has more under it.")
        if st.button("Retry", key=f"retry-{key}", icon=":material/refresh:"):
            data.forget()
            st.rerun()


def _headline(error: Exception) -> str:
    match error:
        case NotLoggedIn():
            return "You are not logged in any more"
        case CollectorUnreachable():
            return "The collector does not answer"
        case QueryTimedOut():
            return "The query took too long; a shorter window may do"
        case CollectorBusy():
            return "The collector is busy; try again in a moment"
        case DashboardError():
            return "The query failed"
        case _:
            return "This panel could not be drawn"


def chart_key(key: str) -> str:
    """Where a chart's selection stands in the session's state."""
    return f"chart-{key}"


def chart(
    drawn: Chart, key: str, *, on_select: Callable[[], None] | None = None, under: bool = True, narrow: str | None = None
) -> None:
    """A chart with its alternative sentence, and its data as a table that can be opened under it.

    `narrow` is HTML that takes the chart's place on a narrow screen, where its words would not fit.
    """
    with st.container(key=f"wide-{key}" if narrow else f"any-{key}"):
        if on_select is None:
            st.vega_lite_chart(spec=drawn.spec, width="stretch", alt=drawn.alt, key=chart_key(key))
        else:
            st.vega_lite_chart(spec=drawn.spec, width="stretch", alt=drawn.alt, key=chart_key(key), on_select=on_select)
    if narrow:
        with st.container(key=f"narrow-{key}"):
            show(narrow, key=f"narrow-html-{key}")
    if under:
        as_table(drawn.alt, drawn.rows, key)


def as_table(sentence: str, rows: Sequence[Row], key: str) -> None:
    """The sentence and the rows of a chart, closed until wanted."""
    with st.expander("In words and as a table", type="compact"):
        st.markdown(sentence)
        if rows:
            show(table(rows), key=f"table-{key}")
