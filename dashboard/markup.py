"""Pieces of HTML for what Streamlit's own elements draw poorly: plain tables, badges, turn lists, timelines, cards.

Every value is escaped here and nowhere else. The looks are in `style.css`; tones are named, so that light and dark stay one text.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime, tzinfo
from html import escape
from typing import Any
from urllib.parse import urlencode

from dashboard import text
from dashboard.trace import SpanRow

Row = Mapping[str, Any]

_LARGE = 10_000
_SYMBOLS = {"good": "✓", "lesser": "▽", "partial": "◐", "error": "✕", "left": "○", "lost": "?"}
_TONES = {
    "success": "good",
    "degraded": "lesser",
    "fallback": "lesser",
    "truncated": "partial",
    "interrupted": "partial",
    "refused": "lesser",
    "cancelled": "left",
    "error": "error",
    "abandoned": "lost",
}


def badge(label: str, tone: str) -> str:
    """A small label: a symbol and a word, so that its colour is never all it has."""
    return f'<span class="lw-badge lw-{tone}"><span aria-hidden="true">{_SYMBOLS.get(tone, "·")}</span> {escape(label)}</span>'


def turn_head(turn_id: str, badges: Iterable[str]) -> str:
    """The heading of a turn's page: its id, and badges that are HTML already."""
    return f'<div class="lw-head"><h1>{escape(turn_id)}</h1>{"".join(badges)}</div>'


def tag(label: str) -> str:
    """A word with a frame, that means nothing by its colour."""
    return f'<span class="lw-tag">{escape(label)}</span>'


def status_badge(status: str | None) -> str:
    """A turn's status. An unknown one reads as not-success."""
    return badge(status or "unknown", _TONES.get(status or "", "error"))


def table(rows: Sequence[Row], *, classes: str = "", figures: Collection[str] = ()) -> str:
    """Rows of texts as a plain table; columns that hold figures are set to the right, and those that are named as such."""
    columns = list(rows[0]) if rows else []
    figures = {column for column in columns if column in figures or all(_is_figure(row[column]) for row in rows)}
    head = "".join(f'<th scope="col"{_right(column in figures)}>{escape(column)}</th>' for column in columns)
    body = "".join(
        "<tr>" + "".join(f"<td{_right(column in figures)}>{escape(str(row[column]))}</td>" for column in columns) + "</tr>"
        for row in rows
    )
    return f'<div class="lw-scroll"><table class="lw-table {classes}"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def tall(body: str) -> str:
    """HTML in a frame that scrolls, because it is longer than its place."""
    return f'<div class="lw-scroll lw-tall">{body}</div>'


def _is_figure(value: object) -> bool:
    said = str(value)
    day = said[2:3] == " " and said[3:6].isalpha() and said[3:4].isupper()
    return said == text.NONE or (said[:1].isdigit() and not day) or said[:1] in "+-±<"


def _right(yes: bool) -> str:
    return ' class="lw-right"' if yes else ""


def page_url(path: str, query: Mapping[str, str]) -> str:
    """The address of a page of ours."""
    return f"/{path}?{urlencode(query)}" if query else f"/{path}"


def page_link(path: str, query: Mapping[str, str], label: str) -> str:
    """A link to a page of ours, that opens inside the running session."""
    address = escape(page_url(path, query))
    return f'<a class="lw-link" href="{address}" data-open="{address}" target="_self">{escape(label)}</a>'


def link_table(rows: Sequence[Row], links: Sequence[str]) -> str:
    """Rows of texts as a table whose first column is a link; each link is HTML already, and the row follows it."""
    columns = list(rows[0]) if rows else []
    figures = {column for column in columns[1:] if all(_is_figure(row[column]) for row in rows)}
    head = "".join(f'<th scope="col"{_right(column in figures)}>{escape(column)}</th>' for column in columns)
    body = "".join(
        f"<tr><td>{link}</td>"
        + "".join(f"<td{_right(column in figures)}>{escape(str(row[column]))}</td>" for column in columns[1:])
        + "</tr>"
        for row, link in zip(rows, links, strict=True)
    )
    return f'<div class="lw-scroll"><table class="lw-table lw-rows"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def slice_table(rows: Sequence[tuple[str, float, float, str, str, str]], what: str) -> str:
    """What is different: a link that is HTML already, the rate now and as usual, from 0 to 1, both as text, and the counts. Two bars on one scale stand beside them."""
    top = max((max(rate, usual) for _, rate, usual, *_ in rows), default=0) or 1
    head = (
        f'<th scope="col">Turns with</th><th scope="col" class="lw-wide">Now and as usual</th><th scope="col" class="lw-right">{escape(what)}</th>'
        '<th scope="col" class="lw-right">Usual</th><th scope="col" class="lw-right">Turns</th>'
    )
    body = "".join(
        f'<tr><td>{link}</td><td class="lw-wide lw-two" aria-hidden="true"><i style="--lw-share:{rate / top:.4f}"></i><i style="--lw-share:{usual / top:.4f}"></i></td>'
        f'<td class="lw-right">{escape(said)}</td><td class="lw-right">{escape(usual_said)}</td><td class="lw-right">{escape(of)}</td></tr>'
        for link, rate, usual, said, usual_said, of in rows
    )
    return f'<div class="lw-scroll"><table class="lw-table lw-rows"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def result_table(columns: Sequence[str], rows: Sequence[Sequence[str]], turn_at: int | None, kept: Mapping[str, str]) -> str:
    """A query's result; the values of the column at `turn_at` lead to their turns."""
    figures = {place for place in range(len(columns)) if all(_is_figure(row[place]) for row in rows) and place != turn_at}
    head = "".join(f'<th scope="col"{_right(place in figures)}>{escape(name)}</th>' for place, name in enumerate(columns))

    def cell(place: int, value: str) -> str:
        inner = page_link("turn", {"id": value, **kept}, value) if place == turn_at and value != text.NONE else escape(value)
        return f"<td{_right(place in figures)}>{inner}</td>"

    body = "".join("<tr>" + "".join(cell(place, value) for place, value in enumerate(row)) + "</tr>" for row in rows)
    rows_lead = " lw-rows" if turn_at is not None else ""
    return f'<div class="lw-scroll"><table class="lw-table lw-result{rows_lead}"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def trouble_table(rows: Sequence[tuple[str, str, str, str, bool]]) -> str:
    """Things that should not happen: what, how often, what it means, tone, and whether it did happen."""

    def line(what: str, count: str, means: str, tone: str, happened: bool) -> str:  # one of a row's values
        quiet = "lost" if count == text.NONE else "good"
        detail = f'<div class="lw-detail">{escape(means)}</div>' if means else ""
        return f"<tr><td>{badge(count, tone if happened else quiet)}</td><td>{escape(what)}{detail}</td></tr>"

    head = '<th scope="col">How often</th><th scope="col">What</th>'
    body = "".join(line(*row) for row in rows)
    return f'<div class="lw-scroll"><table class="lw-table"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def alert_head(badges: Iterable[str], series: str, summary: str, *, level: int = 3) -> str:
    """An alert's head: badges that are HTML already, the series as a heading, and what happened."""
    return f'<div class="lw-head"><h{level} class="lw-series">{escape(series)}</h{level}>{"".join(badges)}</div><div class="lw-summary">{escape(summary)}</div>'


def meter(value: float, threshold: float, unit: str) -> str:
    """A value against the threshold that it is measured by, as a bar with a mark, and in words."""
    top = max(value, threshold) * 1.08 or 1
    said = f"{value:.3g}{unit}, {value / threshold:.1f} times the threshold of {threshold:.3g}{unit}"
    return (
        f'<div class="lw-meter" aria-hidden="true"><i style="--lw-share:{max(value, 0) / top:.4f}"></i><b style="--lw-share:{threshold / top:.4f}"></b></div>'
        f'<div class="lw-detail">{escape(said)}</div>'
    )


def turn_url(turn_id: str, kept: Mapping[str, str]) -> str:
    """The address of a turn's page, with the filters that lead back."""
    return page_url("turn", {"id": turn_id, **kept})


def turn_table(rows: Sequence[Row], *, tz: tzinfo, now: datetime, kept: Mapping[str, str]) -> str:
    """Turns as a table whose rows open them: a link per row, and a bar behind each total."""
    longest = max((row["total_ms"] or 0 for row in rows), default=0) or 1
    head = (
        '<th scope="col">Turn</th><th scope="col">Ended</th><th scope="col" class="lw-wide">Route</th><th scope="col" class="lw-wide">Tier</th>'
        '<th scope="col">Status</th><th scope="col" class="lw-wide">Reason</th>'
        '<th scope="col" class="lw-right lw-wide">First token</th><th scope="col" class="lw-right">Total</th>'
        '<th scope="col" class="lw-right lw-wide">Attempts</th><th scope="col" class="lw-right lw-wide">Sources</th>'
    )
    body = "".join(_turn_row(row, longest, tz, now, kept) for row in rows)
    return f'<div class="lw-scroll"><table class="lw-table lw-turns"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _turn_row(row: Row, longest: int, tz: tzinfo, now: datetime, kept: Mapping[str, str]) -> str:
    total = row["total_ms"]
    width = round(100 * (total or 0) / longest)
    turn_id = row["turn_id"]
    link = (
        f'<a href="{escape(turn_url(turn_id, kept))}" data-open="{escape(turn_id)}" title="{escape(turn_id)}" target="_self">'
        f"{escape(text.short_id(turn_id))}</a>"
    )
    cells = (
        f'<td class="lw-id">{link}</td>',
        f'<td class="lw-nowrap">{text.clock(row["ended_at"], tz, now)}</td>',
        f'<td class="lw-wide">{escape(row["route"] or text.NONE)}</td>',
        f'<td class="lw-wide">{escape(row["model_tier"] or text.NONE)}</td>',
        f"<td>{status_badge(row['status'])}</td>",
        f'<td class="lw-wide">{escape(row["reason"] or text.NONE)}</td>',
        f'<td class="lw-right lw-wide">{text.duration(row["first_token_ms"])}</td>',
        f'<td class="lw-right lw-bar" style="--lw-share:{width / 100}"><span>{text.duration(total)}</span></td>',
        f'<td class="lw-right lw-wide">{text.count(row["attempts"])}</td>',
        f'<td class="lw-right lw-wide">{text.count(row["sources_count"])}</td>',
    )
    return f"<tr>{''.join(cells)}</tr>"


def timeline(moments: Iterable[tuple[str, str, str, str]]) -> str:
    """Moments as a list: time, what, detail, tone."""
    items = "".join(
        f'<li class="lw-moment{f" lw-{tone}" if tone else ""}"><span class="lw-at">{escape(at)}</span><span>{escape(what)}'
        + (f' <span class="lw-detail">{escape(detail)}</span>' if detail else "")
        + "</span></li>"
        for at, what, detail, tone in moments
    )
    return f'<ol class="lw-timeline">{items}</ol>'


def source_cards(rows: Sequence[Row]) -> str:
    """Sources as cards: title, host, where each was evidenced, its score."""
    return f'<ol class="lw-cards">{"".join(_source_card(number, row) for number, row in enumerate(rows, 1))}</ol>'


def _source_card(number: int, row: Row) -> str:
    url = row["url"] or text.NONE
    title = escape(row["title"] or text.host(url))
    # Only web addresses become links: a stored URL is somebody else's text.
    linked = url.startswith(("https://", "http://"))
    name = f'<a href="{escape(url)}" rel="noopener noreferrer" target="_blank">{title}</a>' if linked else title
    origins = "".join(tag(origin) for origin in row["origins"] or () if origin)
    points = row["score"]
    score = (
        f'<span class="lw-detail">score {points:{".2f" if abs(points) < _LARGE else ".3g"}}</span>'
        if points is not None
        else ""
    )
    publisher = escape(row["publisher"] or text.host(url))
    return (
        f'<li class="lw-card"><span class="lw-number">{number}</span><div><div class="lw-title">{name}</div>'
        f'<div class="lw-detail">{publisher}</div><div class="lw-tags">{origins}{score}</div></div></li>'
    )


def span_table(rows: Sequence[SpanRow]) -> str:
    """The waterfall for a narrow screen: a row per span, indented, with why it ended as it did under its name."""
    head = '<th scope="col">Span</th><th scope="col" class="lw-right">Starts</th><th scope="col" class="lw-right">Takes</th>'
    body = "".join(
        f'<tr><td><div style="margin-left:{min(row.depth, 8) * 0.7:.1f}rem">{escape(row.label)}'
        + (f'<div class="lw-why lw-{row.tone or "left"}">{escape(row.note)}</div>' if row.note else "")
        + f'</div></td><td class="lw-right">{text.duration(row.start_ms)}</td><td class="lw-right">{text.duration(row.duration_ms)}</td></tr>'
        for row in rows
    )
    return f'<div class="lw-scroll"><table class="lw-table"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def agreement(rows: Sequence[tuple[str, str, str, str, str, str]]) -> str:
    """Record beside trace: what, record, trace, difference, verdict and its tone."""
    head = "".join(
        f'<th scope="col"{_right(right)}>{title}</th>' for title, right in (("What", False), ("Record", True), ("Trace", True))
    )
    head += '<th scope="col" class="lw-right lw-wide">Difference</th><th scope="col">Agree?</th>'
    body = "".join(
        f'<tr><th scope="row">{escape(what)}</th><td class="lw-right">{escape(record)}</td><td class="lw-right">{escape(trace)}</td>'
        f'<td class="lw-right lw-wide">{escape(difference)}</td><td>{badge(verdict, tone)}</td></tr>'
        for what, record, trace, difference, verdict, tone in rows
    )
    return f'<div class="lw-scroll"><table class="lw-table"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def tool_table(rows: Sequence[tuple[str, str, str, str, str]]) -> str:
    """Tool calls: number, name, outcome with its tone, duration."""
    head = (
        '<th scope="col">#</th><th scope="col">Tool</th><th scope="col">Outcome</th><th scope="col" class="lw-right">Took</th>'
    )
    body = "".join(
        f'<tr><td>{escape(number)}</td><td>{escape(name)}</td><td>{badge(outcome, tone)}</td><td class="lw-right">{escape(took)}</td></tr>'
        for number, name, outcome, tone, took in rows
    )
    return f'<div class="lw-scroll"><table class="lw-table"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'
