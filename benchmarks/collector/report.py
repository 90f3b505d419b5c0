"""The figures as a table, and the goals beside them: met or not, never left out."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.collector.measure import Figures

_HEAD = (
    "spans/s acknowledged",
    "spans/s queryable",
    "CPU s per 100k",
    "peak MiB",
    "bytes a span",
    "shown after s",
    "killed: acknowledged",
    "lost",
)


def as_markdown(found: Sequence[Figures]) -> str:
    """The table and the goals, as they stand in the documentation."""
    lines = ["| | " + " | ".join(_HEAD) + " |", "|---" * (len(_HEAD) + 1) + "|"]
    for one in found:
        cells = [
            _number(one.acknowledged_per_s),
            _number(one.queryable_per_s),
            _number(one.cpu_s),
            _number(one.peak_mib),
            _number(one.disk_bytes),
            "" if one.shown_after_s is None else f"{one.shown_after_s:.2f}",
            "" if one.killed_acknowledged is None else f"{one.killed_acknowledged:,}",
            "" if one.killed_lost is None else f"{one.killed_lost:,}",
        ]
        lines.append(f"| {one.lane} {one.version}".rstrip() + " | " + " | ".join(cells) + " |")
    lines += ["", "| goal | measured | |", "|---|---|---|"]
    lines += [f"| {text} | {measured} | {'met' if met else 'not met'} |" for text, measured, met in goals(found)]
    return "\n".join(lines) + "\n"


def goals(found: Sequence[Figures]) -> list[tuple[str, str, bool]]:
    """Every goal that the figures speak of: what it is, what was measured, whether that is enough."""
    by_lane = {one.lane: one for one in found}
    ours, plain = by_lane.get("lastword"), by_lane.get("plain way")
    rows: list[tuple[str, str, bool]] = []
    if ours is None:
        return rows
    loaded = ours.queryable_per_s or 0.0
    rows.append(("at least 30,000 spans/s durable and loaded", f"{loaded:,.0f}", loaded >= 30_000))
    shown = ours.shown_after_s
    rows.append(("queryable within 2 s", "never" if shown is None else f"{shown:.2f} s", shown is not None and shown <= 2))
    disk = ours.disk_bytes
    rows.append(("under 120 bytes a span", "unknown" if disk is None else f"{disk:.0f}", disk is not None and disk < 120))
    rows.append(("nothing acknowledged is lost by SIGKILL", f"{ours.killed_lost} lost", ours.killed_lost == 0))
    if plain is not None and plain.queryable_per_s:
        times = loaded / plain.queryable_per_s
        rows.append(("at least 2 times the plain way", f"{times:.1f} times", times >= 2))
    return rows


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"
