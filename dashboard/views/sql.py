"""SQL: anything else. One query that reads, through the collector's live surface; it stands in the URL, so a link runs it again.

Owns the limits that are shown beside it: characters of a query, rows of a result, time.
"""

from __future__ import annotations

import streamlit as st

from dashboard import data, filters, markup, panels, queries, results, text, url, verbatim
from dashboard.charts import result as result_chart
from dashboard.client import CollectorUnreachable, QueryFailed
from dashboard.components import show
from dashboard.panels import Empty
from dashboard.settings import settings
from dashboard.views import window

SQL = "sql"
_EXAMPLE = "example"
_TABLE = "table"
_TALLER_PX = 190


def page() -> None:
    """Draws the page."""
    st.markdown("# Ask the database", anchors=False)
    left, right = st.columns([3, 2], gap="large")
    with left:
        _editor()
    with right:
        panels.panel("schema", "Tables", _schema, height_px=240)
    panels.panel("result", "Result", _result, height_px=300)


def _editor() -> None:
    titles = queries.examples()
    st.selectbox(
        "Begin with a question",
        [*titles],
        index=None,
        placeholder=f"{len(titles)} questions to begin with",
        key=_EXAMPLE,
        on_change=_example_chosen,
    )
    st.text_area(
        "Query",
        key=url.seed(SQL, url.get(SQL)),
        height=_TALLER_PX,
        max_chars=settings().max_query_chars,
        placeholder="SELECT route, count(*) AS turns FROM turns GROUP BY route",
        on_change=url.chosen,
        args=(SQL, ""),
    )
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        st.button("Run", icon=":material/play_arrow:", on_click=_run)
        seconds = text.duration(settings().query_timeout_ms)
        st.caption(
            f"One statement that reads; at most {text.plural(settings().max_query_rows, 'row')} and {seconds}. "
            "The address holds the query: a link runs it again.",
            width="content",
        )


def _example_chosen() -> None:
    title = st.session_state.get(_EXAMPLE)
    if title:
        url.put({SQL: queries.examples()[title]})


def _run() -> None:
    data.forget()  # who presses Run wants what is stored now
    url.chosen(SQL, "")


def _schema() -> None:
    rows = data.fetch("schema", {}).rows
    tables = list(dict.fromkeys(row["table_name"] for row in rows))
    if not tables:
        raise Empty("**The collector has no tables yet.**")
    chosen = st.selectbox(
        "Table", tables, index=tables.index("turns") if "turns" in tables else 0, label_visibility="collapsed"
    )
    listed = [
        {"Column": row["column_name"], "Type": row["data_type"].lower(), "What it is": row["comment"] or ""}
        for row in rows
        if row["table_name"] == chosen
    ]
    show(markup.tall(markup.table(listed, classes="lw-code")), key="schema-table")


def _result() -> None:
    sql = url.get(SQL).strip()
    if not sql:
        raise Empty("**No query yet.** Write one, or begin with a question above.")
    if len(sql) > settings().max_query_chars:
        raise Empty(
            f"**The query is too long:** at most {settings().max_query_chars:,} characters. `lastword sql -f FILE` takes longer ones."
        )
    try:
        result, ms = data.ask(sql)
    except CollectorUnreachable:
        raise
    except QueryFailed as error:
        if error.status >= 500:
            raise
        st.markdown(f":red-badge[✕ {error.title}] The collector did not run this query.")
        show(verbatim.code(error.detail or error.title), key="refusal")
        return
    table = result.table
    cut = (
        f" **Cut at {text.plural(settings().max_query_rows, 'row')}**: `lastword sql --max-rows` gives more."
        if result.truncated
        else ""
    )
    with st.container(horizontal=True, vertical_alignment="center", gap="small", key="result-head"):
        st.markdown(f"{text.plural(table.num_rows, 'row')} in {text.duration(ms)}.{cut}", width="content")
        st.space("stretch")
        for name, body, mime in (
            ("CSV", results.csv, "text/csv"),
            ("Parquet", results.parquet, "application/vnd.apache.parquet"),
        ):
            file = f"lastword.{name.lower()}"
            st.download_button(name, body(table), file_name=file, mime=mime, icon=":material/download:", on_click="ignore")
    drawn = results.picture(table)
    if drawn is not None:
        st.caption(f"{text.plain(drawn.y)} by {text.plain(drawn.x)}")
        panels.chart(result_chart.chart(result.rows, drawn, window.colours()), "result", under=False)
    if not table.num_rows:
        raise Empty("**No row.** The query ran and found nothing.")
    shown = settings().max_shown_rows
    listed = markup.result_table(
        table.column_names, results.cells(table, shown), results.turn_column(table.column_names), filters.kept()
    )
    window.follow(listed, "result-table")
    if table.num_rows > shown:
        st.caption(f"The first {shown:,} rows are shown; the files hold all {table.num_rows:,}.")
