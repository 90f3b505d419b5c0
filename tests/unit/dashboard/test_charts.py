from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import altair as alt
import pytest

from dashboard.charts import alerts, evidence, latency, partials, pipeline, rate, result, small, sources, stages
from dashboard.charts.base import Chart
from dashboard.charts.waterfall import COMMIT_LABEL, waterfall
from dashboard.palette import DARK, LIGHT, Palette
from dashboard.results import Picture
from dashboard.stages import ORDER
from dashboard.state import custom_view
from dashboard.stats import Bucket
from dashboard.trace import Trace, read_trace
from lastword.states import Stage
from tests.unit.dashboard.trees import span_rows, turns

MARKS_LIMIT = 2000
HOUR_MS = 3_600_000


def buckets(*counts: tuple[int, int]) -> list[Bucket]:
    return [Bucket(place * 60_000, (place + 1) * 60_000, turns, broken) for place, (turns, broken) in enumerate(counts)]


def stage_row(stage: str, period: str = "now", p95: float = 40) -> dict[str, Any]:
    return {"period": period, "stage": stage, "turns": 9, "p50_ms": 12.0, "p95_ms": p95, "share": 0.25}


def tool_row(name: str, results: int, empty: int = 0, error: int = 0, timeout: int = 0) -> dict[str, Any]:
    counts = {"results": results, "empty": empty, "error": error, "timeout": timeout}
    return {"name": name, "calls": sum(counts.values()), **counts, "duration_p95_ms": 40.0}


START = datetime(2026, 11, 24, 12, tzinfo=UTC)
VIEW = custom_view(START, START + timedelta(hours=1))
REASONS = ("provider_error", "deadline", "stall_timeout", "provider_overloaded", "refusal", "output_limit", "internal_error")


def broken_rows(reasons: int = 3) -> list[dict[str, Any]]:
    return [
        {"bucket": place, "reason": reason, "stage": "stream_ms" if place else None, "turns": 9 - place}
        for place, reason in enumerate(REASONS[:reasons])
    ]


def place_row(route: str | None, turns: int, broken: int, before: int = 0) -> dict[str, Any]:
    return {
        "route": route,
        "tier": "smart" if route else None,
        "turns": turns,
        "broken": broken,
        "turns_before": before,
        "broken_before": 0,
    }


def matrix_rows(*p95_ms: float, turns: int = 50) -> list[dict[str, Any]]:
    return [
        {"stage": "model_wait_ms", "bucket": place - 1, "turns": turns, "p95_ms": each} for place, each in enumerate(p95_ms)
    ]


def heat_row(bucket: int | None, size: int | None, turns: int = 4) -> dict[str, Any]:
    return {"bucket": bucket, "size": size, "turns": turns, "p50_ms": 90.0, "p95_ms": 400.0, "p99_ms": 900.0}


HEAT = [heat_row(None, None), heat_row(0, None), heat_row(0, 20), heat_row(0, -1)]


def alert_row(**changed: Any) -> dict[str, Any]:
    return {
        "alert_id": "a1",
        "rule": "partial_rate",
        "severity": "page",
        "scope": "route",
        "route": "knowledge",
        "model_tier": None,
        "since_at": START,
        "resolved_at": None,
        "summary": "route knowledge: 12% broken",
        **changed,
    }


def traces() -> list[Trace]:
    return [read_trace(span_rows(turn)) for turn in turns(300)]


def every_chart(palette: Palette) -> Iterator[Chart]:
    run = buckets((100, 9), (10, 1), (0, 0), (40, 0))
    yield rate.partial_rate(run, palette, UTC)
    yield stages.stage_latency([stage_row("auth_ms"), stage_row("total_ms"), stage_row("auth_ms", "before")], palette)
    yield evidence.source_counts(
        [{"route": "a", "sources_count": 0, "turns": 3}, {"route": "a", "sources_count": 14, "turns": 1}], palette
    )
    yield evidence.tools_called([tool_row("search", 8, 1, 1, 1), tool_row("clock", 2)], palette)
    yield partials.reasons_over_time(broken_rows(), VIEW, 2, palette, UTC)
    yield partials.broken_in(broken_rows(7), palette)
    yield partials.time_to_break(
        [{"size": None, "turns": 3, "p50_ms": 90.0}, {"size": 13, "turns": 3, "p50_ms": 90.0}], palette
    )
    yield partials.endings([{"period": "now", "ending": "kept", "turns": 4}], palette, compare=True)
    yield partials.where([place_row("a", 100, 9, 80), place_row("b", 3, 1), place_row(None, 2, 2)], palette)
    yield result.chart([{"a": "x", "b": 2}, {"a": "x", "b": 3}], Picture("a", "b", over_time=False), palette)
    yield result.chart([{"a": START, "b": 2.5}, {"a": START, "b": None}], Picture("a", "b", over_time=True), palette)
    yield latency.matrix(matrix_rows(100, 110, 400), VIEW, 600_000, palette, UTC)
    yield latency.heat(HEAT, VIEW, 600_000, palette, UTC, (VIEW.start_ms, VIEW.end_ms, 50, 10_000))
    yield latency.shares([{"route": "a", "stage": "modelWait", "position": 7, "turns": 4, "share": 1.0}], palette)
    yield sources.counts_by_route(
        [{"route": "a", "sources_count": 14, "turns": 1}, {"route": "b", "sources_count": 0, "turns": 2}], palette
    )
    yield sources.origins([{"origin": None, "sources": 4, "turns": 3}, {"origin": "tool", "sources": 3, "turns": 2}], palette)
    yield pipeline.received([{"bucket": 2, "turns": 4, "spans": 0}], VIEW, "turns", palette, UTC)
    yield alerts.timeline([alert_row(), alert_row(resolved_at=START + timedelta(minutes=9))], VIEW, START, palette, UTC)
    yield rate.partial_rate(run, palette, UTC, incidents=[(0, 90_000)])
    yield waterfall(traces()[0], palette)


def layers(spec: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for layer in spec.get("layer", []):
        yield layer
        yield from layers(layer)


def data_rows(spec: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for each in [spec, *layers(spec)]:
        yield from each.get("data", {}).get("values", [])


@pytest.mark.parametrize("palette", [LIGHT, DARK], ids=["light", "dark"])
def test_chart_is_valid_vega_lite(palette: Palette) -> None:
    """Every chart passes the grammar's own schema, and is plain JSON."""
    for chart in every_chart(palette):
        json.dumps(chart.spec, allow_nan=False)
        whole = {name: value for name, value in chart.spec.items() if name != "$schema"}
        alt.LayerChart.from_dict(whole)


def test_chart_keeps_its_data_below_the_top() -> None:
    """Data at the top would be sent apart from the chart, which the browser then draws once without any."""
    assert all("data" not in chart.spec for chart in every_chart(LIGHT))


def test_chart_has_words_and_a_table() -> None:
    """Nothing is said by a picture alone: a sentence made from the data, and the data as rows of texts."""
    for chart in every_chart(LIGHT):
        assert chart.alt.endswith(".")
        assert chart.rows
        assert len({tuple(row) for row in chart.rows}) == 1


def test_longest_window_stays_within_the_limit_of_marks() -> None:
    """As many buckets as a window can have, in as many layers as the chart draws."""
    run = [Bucket(place * HOUR_MS, (place + 1) * HOUR_MS, 20 + place, 1) for place in range(72)]
    spec = rate.partial_rate(run, LIGHT, UTC).spec
    assert len(list(data_rows(spec))) * len(list(layers(spec))) <= MARKS_LIMIT


def test_thin_bucket_is_marked_hollow() -> None:
    """Below thirty turns a step is thin; at thirty it is not; without turns it is not drawn."""
    rows = [row for row in data_rows(rate.partial_rate(buckets((30, 1), (29, 1), (0, 0)), LIGHT, UTC).spec) if "thin" in row]
    assert [row["thin"] for row in rows] == [False, True]


def test_interval_stays_inside_the_axis() -> None:
    """A wide interval is cut at the axis and never widens it."""
    run = buckets((1, 1), (400, 2))
    top = rate.top_of_scale([run])
    rows = [row for row in data_rows(rate.partial_rate(run, LIGHT, UTC).spec) if "high" in row]
    assert all(row["high"] <= top for row in rows)
    assert top < 0.2


def test_small_multiples_share_one_scale() -> None:
    """The same rate is as high in each, whatever the others of its route are; few turns are marked, and none draw nothing."""
    top = 0.5
    one, other = (rate.route_rate(buckets(*run), top, UTC, "r").svg for run in (((100, 25), (100, 0)), ((100, 25), (100, 50))))
    edge = f'y1="{small.HEIGHT / 2:.2f}"'
    assert edge in one
    assert edge in other
    assert rate.route_rate(buckets((10, 1), (0, 0)), top, UTC, "r").svg.count("lw-step lw-thin") == 1
    assert "lw-thin" not in one


def test_small_pictures_stay_within_their_frame() -> None:
    """Whatever the values are: all alike, none, or far apart."""
    for values in ([0.0, 0.0], [1.0, 1.0, 1.0], [-5.0, 1e9]):
        ys = [float(pair.split(",")[1]) for pair in re.findall(r"[\d.-]+,[\d.-]+", small.line(values))]
        assert len(ys) == len(values)
        assert all(0 <= y <= small.HEIGHT for y in ys)
    heights = [float(found) for found in re.findall(r'height="([\d.]+)"', small.bars([0.0, 3.0, 6.0]))]
    assert heights == [0.0, small.HEIGHT / 2, small.HEIGHT]


def test_rate_names_its_worst_trusted_step() -> None:
    """The sentence names the worst step that holds enough turns, not the thin one above it."""
    alt = rate.partial_rate(buckets((100, 12), (2, 2)), LIGHT, UTC).alt
    assert "12 of 100 turns" in alt


def test_stages_stand_in_the_machines_order() -> None:
    """Whatever the order of the rows; the two marks come last."""
    rows = [stage_row(column) for column, _, _ in reversed(ORDER)]
    assert [row["Stage"] for row in stages.stage_latency(rows, LIGHT).rows] == [label for _, label, _ in ORDER]
    assert [label for _, label, _ in ORDER[:-2]] == [stage.value.removesuffix("Ms") for stage in Stage]


def test_stage_of_no_time_has_a_place_on_the_logarithmic_axis() -> None:
    """Zero has no logarithm; the stage is drawn at the left end and reads as 0 ms."""
    chart = stages.stage_latency([stage_row("auth_ms") | {"p50_ms": 0.0}], LIGHT)
    assert all(row["p50"] > 0 for row in data_rows(chart.spec))
    assert chart.rows[0]["p50"] == "0 ms"


def test_answers_with_many_sources_share_the_last_bar() -> None:
    """Ten and more are one bar, and the shares add up."""
    rows = [{"route": "a", "sources_count": count, "turns": 1} for count in (0, 10, 11, 40)]
    drawn = list(data_rows(evidence.source_counts(rows, LIGHT).spec))
    assert drawn[-1]["sources"] == "10+"
    assert drawn[-1]["turns"] == 3
    assert sum(row["share"] for row in drawn) == pytest.approx(1)


def test_share_without_source_counts_turns() -> None:
    """Of all routes together, and per route with the worst first."""
    rows = [
        {"route": "a", "sources_count": 0, "turns": 1},
        {"route": "a", "sources_count": 2, "turns": 3},
        {"route": "b", "sources_count": 0, "turns": 2},
    ]
    assert evidence.without_source(rows) == (3, 6)
    assert [row["Route"] for row in evidence.sources_by_route(rows)] == ["b", "a"]


def test_tool_segments_add_up_to_its_calls() -> None:
    """With results, empty, timeout and error stand side by side without gap or overlap."""
    spec = evidence.tools_called([tool_row("search", 5, 2, 1, 1)], LIGHT).spec
    segments = [row for row in data_rows(spec) if "outcome" in row]
    assert [row["from"] for row in segments] == [0, 5, 7, 8]
    assert segments[-1]["to"] == 9


def test_waterfall_draws_the_commit_line_only_where_text_was_shown() -> None:
    """The line stands at the first visible token; a turn that showed nothing has none."""
    shown = next(trace for trace in traces() if trace.first_visible_ms)
    silent = Trace(rows=shown.rows, has_root=True, first_visible_ms=None)
    lines = [row for row in data_rows(waterfall(shown, LIGHT).spec) if row.get("said") == COMMIT_LABEL]
    assert {row["from"] for row in lines} == {shown.first_visible_ms}
    assert not [row for row in data_rows(waterfall(silent, LIGHT).spec) if row.get("said") == COMMIT_LABEL]


def test_waterfall_has_a_row_per_span_and_no_tick_after_the_end() -> None:
    """Rows by place, and an axis that ends where the turn ends."""
    trace = traces()[0]
    spec = waterfall(trace, LIGHT).spec
    assert [row["place"] for row in data_rows(spec) if "indent" in row] == list(range(len(trace.rows)))
    ticks = next(
        layer["encoding"]["x"]["axis"]["values"] for layer in layers(spec) if layer.get("encoding", {}).get("x", {}).get("axis")
    )
    assert ticks[-1] <= max(row.end_ms for row in trace.rows)


def test_palettes_have_the_same_meanings() -> None:
    """Light and dark name the same phases, each with a colour of its own."""
    assert list(LIGHT.phases) == list(DARK.phases)
    for palette in (LIGHT, DARK):
        assert len(set(palette.phases.values())) == len(palette.phases)


def test_reasons_beyond_the_palette_share_one_colour() -> None:
    """The most frequent keep a colour each; the rest is one kind with a name, and no turn is left out."""
    rows = broken_rows(7)
    colours = partials.reason_colours(rows, LIGHT)
    assert list(colours) == [*REASONS[:5], partials.OTHER]
    assert len(set(colours.values())) == len(colours)
    drawn = [row for row in data_rows(partials.reasons_over_time(rows, VIEW, 1, LIGHT, UTC).spec) if "reason" in row]
    assert sum(row["high"] - row["low"] for row in drawn) == sum(row["turns"] for row in rows)


def test_routes_are_ordered_by_what_is_certain() -> None:
    """One broken turn of one is no worst route: the lower end of the interval counts, and turns without a route are in the table only."""
    chart = partials.where([place_row("new", 1, 1), place_row("bad", 400, 200), place_row(None, 7, 7)], LIGHT)
    drawn = [row["place"] for row in data_rows(chart.spec) if "place" in row]
    assert drawn[:2] == ["bad · smart", "new · smart"]
    assert "no route" not in drawn
    assert [row["Route and tier"] for row in chart.rows] == ["bad · smart", "new · smart", "no route"]


def test_window_before_is_not_drawn_where_it_says_nothing() -> None:
    """Too few turns before are no comparison, rather than one with zero."""
    rows = [{"period": "now", "ending": "kept", "turns": 4}, {"period": "before", "ending": "kept", "turns": 1}]
    compared = {row["Turn"]: row["Window before"] for row in partials.endings(rows, LIGHT, compare=True).rows}
    alone = {row["Window before"] for row in partials.endings(rows, LIGHT, compare=False).rows}
    assert compared["cut, its text kept as partial"] == "1"
    assert alone == {"–"}


def test_stage_is_measured_against_its_own_usual() -> None:
    """Usual is the median of its steps, those of the window before too; what is four times that ends the scale, and few turns are pale."""
    cells = [
        row
        for row in data_rows(latency.matrix(matrix_rows(100, 100, 100, 800), VIEW, 600_000, LIGHT, UTC).spec)
        if "octaves" in row
    ]
    assert [(row["octaves"], row["ratio_said"]) for row in cells] == [(0, "1.0×"), (0, "1.0×"), (2, "8.0×")]
    few = latency.matrix(matrix_rows(100, 800, turns=3), VIEW, 600_000, LIGHT, UTC)
    assert {row["thin"] for row in data_rows(few.spec) if "thin" in row} == {True}
    assert few.alt.endswith("say little.")


def test_stage_of_a_millisecond_or_two_is_no_news() -> None:
    """Twice of next to nothing is next to nothing."""
    cells = [row for row in data_rows(latency.matrix(matrix_rows(1, 1, 3), VIEW, 600_000, LIGHT, UTC).spec) if "ratio" in row]
    assert {row["ratio"] for row in cells} == {1.0}


def test_heat_map_of_the_longest_window_stays_within_the_limit_of_marks() -> None:
    """As many columns as are drawn, each with every size from a millisecond to ten minutes."""
    rows = [heat_row(bucket, size) for bucket in range(latency.MOST_COLUMNS) for size in range(3 * 13)]
    assert len(list(data_rows(latency.heat(rows, VIEW, 60_000, LIGHT, UTC).spec))) <= MARKS_LIMIT


def test_box_is_drawn_within_the_heat_map() -> None:
    """A box of a link that reaches further than the data is cut at its edges and widens no axis."""
    chart = latency.heat(HEAT, VIEW, 600_000, LIGHT, UTC, (0, VIEW.end_ms * 2, 1, 10**9))
    box = list(data_rows(chart.spec))[-1]
    assert (box["start_ms"], box["end_ms"]) == (VIEW.start_ms, VIEW.end_ms)
    assert box["high"] == max(row["high"] for row in data_rows(chart.spec) if "size" in row)


def test_rate_in_other_words_says_them_everywhere() -> None:
    """Sentence, table and tooltip speak of what is counted, and not of partial turns."""
    words = rate.Words(rate="share without a source", counted="turn without a source", of="answered turn")
    chart = rate.partial_rate(buckets((100, 9), (80, 1)), LIGHT, UTC, words)
    assert "artial" not in chart.alt + json.dumps(chart.rows) + json.dumps(chart.spec)
    assert "Share without a source" in chart.rows[0]


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({}, "partial_rate: route knowledge"),
        ({"route": None}, "partial_rate: all turns"),
        ({"route": "", "model_tier": "fast"}, "partial_rate: route (none), tier fast"),
        ({"route": None, "scope": "query", "rule": "slow"}, "slow"),
    ],
)
def test_series_says_what_it_watches(changed: dict[str, Any], expected: str) -> None:
    """A series without a route watches all of them, the empty one those turns that have none, and a rule of SQL whatever it counts."""
    assert alerts.series_said(alert_row(**changed)) == expected


def test_episode_is_drawn_within_the_window_and_wide_enough_to_be_seen() -> None:
    """One that began before reaches to the edge; one of a moment has still a width; what fires reaches to now."""
    rows = [
        alert_row(since_at=START - timedelta(hours=3)),
        alert_row(since_at=START, resolved_at=START + timedelta(seconds=1)),
    ]
    now = START + timedelta(minutes=30)
    drawn = [row for row in data_rows(alerts.timeline(rows, VIEW, now, LIGHT, UTC).spec) if "alert_id" in row]
    assert (drawn[0]["start_ms"], drawn[0]["end_ms"]) == (VIEW.start_ms, VIEW.start_ms + 1_800_000)
    assert drawn[0]["label"] == "partial_rate: route knowledge (firing)"
    assert drawn[1]["end_ms"] - drawn[1]["start_ms"] == (VIEW.end_ms - VIEW.start_ms) // 250


def test_alert_outside_of_the_window_is_no_ground() -> None:
    """Its ground is cut at the window, and not drawn where nothing is left of it."""
    run = buckets((100, 9), (80, 1))
    spec = rate.partial_rate(run, LIGHT, UTC, incidents=[(-90_000, 30_000), (500_000, 900_000)]).spec
    ground = [row for row in data_rows(spec) if row.get("word") == "alert"]
    assert {(row["start_ms"], row["end_ms"]) for row in ground} == {(0, 30_000)}
