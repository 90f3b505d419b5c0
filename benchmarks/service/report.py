"""The figures as tables, and the goals beside them: met or not, never left out."""

from __future__ import annotations

from msgspec import Struct

from benchmarks.service.measure import Table


class Goal(Struct, frozen=True, kw_only=True):
    """A goal, what was measured, and whether that is enough."""

    text: str
    measured: str
    met: bool


def figure(tables: dict[str, Table], table: str, lane: str, name: str) -> float | None:
    """One figure; None where it was not measured."""
    rows = tables[table].rows if table in tables else []
    return next((row.figures[name] for row in rows if row.lane == lane), None)


def goals(tables: list[Table]) -> list[Goal]:
    """Every goal that the measured tables speak of."""
    by_name = {table.name: table for table in tables}
    found: list[Goal] = []

    def ratio(
        text: str, table: str, name: str, others: str, *, at_least: float | None = None, at_most: float | None = None
    ) -> None:
        ours, theirs = figure(by_name, table, "lastword", name), figure(by_name, table, others, name)
        if ours is None or theirs is None:
            return
        times = ours / theirs if theirs else float("inf")
        met = times >= at_least if at_least is not None else times <= (at_most or 0)
        found.append(Goal(text=text, measured=f"{times:.1f} times", met=met))

    def limit(text: str, table: str, lane: str, name: str, unit: str, at_most: float) -> None:
        value = figure(by_name, table, lane, name)
        if value is not None:
            found.append(Goal(text=text, measured=f"{value:.0f} {unit}", met=value <= at_most))

    ratio(
        "no pacing: at least 3 times the chunks of FastAPI with sse-starlette",
        "no pacing",
        "chunks/s",
        "sse-starlette",
        at_least=3,
    )
    ratio(
        "at a model's pace: p99 of the first chunk's delay at most 2 times that of the bare generator",
        "at a model's pace",
        "first chunk p99 ms",
        "bare",
        at_most=2,
    )
    ratio(
        "through the provider: at least 5 times the chunks of LiteLLM",
        "through the provider",
        "chunks/s",
        "litellm",
        at_least=5,
    )
    limit("a viewer resumed on a finished turn: under 50 KiB", "viewers", "readers", "KiB each", "KiB", 50)
    limit("a stuck viewer resumed on a finished turn: under 50 KiB", "viewers", "stuck readers", "KiB each", "KiB", 50)
    limit("a new turn starts within 100 ms while others wait", "starts", "lastword", "ack worst ms", "ms", 100)
    broken = sum(table.broken for table in tables)
    found.append(Goal(text="no turn is broken", measured=f"{broken} broken", met=broken == 0))
    return found


def as_markdown(tables: list[Table]) -> str:
    """The tables and the goals, as they stand in the documentation."""
    parts = []
    for table in tables:
        names = list(table.rows[0].figures)
        lines = [f"**{table.name}**: {table.what}", "", "| | " + " | ".join(names) + " |", "|---" * (len(names) + 1) + "|"]
        lines += [f"| {row.lane} | " + " | ".join(_number(row.figures[name]) for name in names) + " |" for row in table.rows]
        parts.append("\n".join(lines))
    lines = ["| goal | measured | |", "|---|---|---|"]
    lines += [f"| {goal.text} | {goal.measured} | {'met' if goal.met else 'not met'} |" for goal in goals(tables)]
    return "\n\n".join([*parts, "\n".join(lines)]) + "\n"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"
