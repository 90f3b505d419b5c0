"""Rules that users write: a TOML file of SQL queries, each with a threshold. The same query runs in a preview and in evaluation, with `$start` and `$end` of its window.

A query returns rows of `value`, of `threshold` where a row has its own, and of labels: every other column. It runs read-only, on the same surface as anybody's SQL.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Literal

import duckdb
import msgspec
import pyarrow as pa
from msgspec import Meta, Struct, field

from collector.alerts.conditions import BURN_RATE, NO_DATA, Condition
from collector.sql.surface import Query, QueryError, check_statement, run_on

MAX_RULES = 100
MAX_ROWS = 100
"""Rows of a rule's result that are looked at: more series than that are no alert but a table."""
TIMEOUT_MS = 5_000
_TAKEN = {"partial_rate", "client_left", "abandoned", BURN_RATE, NO_DATA, "watchdog", "test"}


class RulesError(Exception):
    """A rule cannot be used. The message names the file, the rule and what is wrong."""


class Rule(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A rule as it is written in the file. It fires where a value is at the threshold or above it; with `below`, at it or below it."""

    name: Annotated[str, Meta(pattern="^[a-z][a-z0-9_]{0,62}$", description="Name, in lower case.")]
    sql: str
    threshold: float | None = None
    below: bool = False
    window_minutes: Annotated[int, Meta(ge=1, le=40_320)] = 15
    every_minutes: Annotated[int, Meta(ge=1, le=1440)] = 1
    severity: Literal["page", "ticket"] = "ticket"
    labels: dict[str, str] = field(default_factory=dict)
    description: str = ""


class _File(Struct, frozen=True, forbid_unknown_fields=True):
    rule: list[Rule] = field(default_factory=list)


def read_rules(path: Path) -> list[Rule]:
    """The rules of a file, each checked by itself.

    Raises:
        RulesError: the file cannot be read, or a rule in it is wrong.
    """
    try:
        rules = msgspec.convert(tomllib.loads(path.read_text(encoding="utf-8")), _File).rule
    except (OSError, UnicodeDecodeError) as error:
        raise RulesError(f"{path} cannot be read: {error}") from error
    except (tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise RulesError(f"{path}: {error}") from error
    if len(rules) > MAX_RULES:
        raise RulesError(f"{path}: {len(rules)} rules; at most {MAX_RULES} are taken")
    seen: set[str] = set()
    for rule in rules:
        if rule.name in seen or rule.name in _TAKEN:
            raise RulesError(f"{path}: rule {rule.name}: the name is taken")
        seen.add(rule.name)
        try:
            check_statement(rule.sql)
        except QueryError as error:
            raise RulesError(f"{path}: rule {rule.name}: {error}") from error
    return rules


def check_rules(rules: Sequence[Rule], reader: duckdb.DuckDBPyConnection) -> None:
    """Binds each rule's query to the tables that there are.

    Raises:
        RulesError: a query does not fit them, or does not return what a rule needs.
    """
    for rule in rules:
        try:  # binding is enough to know the columns, and costs nothing on a large store
            names = [row[0] for row in reader.execute(f"DESCRIBE {_bound(rule, 0)}").fetchall()]
        except duckdb.Error as error:
            raise RulesError(f"rule {rule.name}: {error}") from error
        if "value" not in names:
            raise RulesError(f"rule {rule.name}: its query returns {', '.join(names)}, and no column named value")
        if rule.threshold is None and "threshold" not in names:
            raise RulesError(f"rule {rule.name}: neither it nor its query has a threshold")


def holding(rule: Rule, reader: duckdb.DuckDBPyConnection, minute: int) -> list[Condition]:
    """What holds of a rule at the end of a minute.

    Raises:
        RulesError: its query failed, or a value is no number.
    """
    try:
        result = run_on(reader, Query(sql=_bound(rule, minute), format="arrow", max_rows=MAX_ROWS, timeout_ms=TIMEOUT_MS))
    except QueryError as error:
        raise RulesError(f"rule {rule.name}: {error}") from error
    if result.truncated:
        raise RulesError(f"rule {rule.name}: its query returns more than {MAX_ROWS} rows; let it return those that matter")
    found = []
    for values in pa.ipc.open_stream(result.body).read_all().to_pylist():
        value, threshold = values.pop("value"), values.pop("threshold", rule.threshold)
        if value is None:  # nothing to measure, which is not the same as zero
            continue
        if not isinstance(value, int | float | Decimal) or not isinstance(threshold, int | float | Decimal):
            raise RulesError(f"rule {rule.name}: value and threshold are to be numbers, not {value!r} and {threshold!r}")
        if value <= threshold if rule.below else value >= threshold:
            labels = rule.labels | {name: str(label) for name, label in values.items() if label is not None}
            found.append(
                Condition(
                    rule=rule.name,
                    severity=rule.severity,
                    labels=labels,
                    value=float(value),
                    threshold=float(threshold),
                    window_minutes=rule.window_minutes,
                    summary=_summary(rule, float(value), float(threshold), labels),
                )
            )
    return found


def _summary(rule: Rule, value: float, threshold: float, labels: dict[str, str]) -> str:
    named = ", ".join(f"{name} {label}" for name, label in labels.items())
    word = "at or below" if rule.below else "at or above"
    text = f"{rule.description or rule.name}: {value:.4g}, {word} {threshold:.4g}"
    return f"{text} ({named})" if named else text


def _bound(rule: Rule, minute: int) -> str:
    """The query of a rule with the bounds of the window that ends with a minute."""
    end = (minute + 1) * 60
    bounds = {"start": end - rule.window_minutes * 60, "end": end}
    return re.sub(r"\$(start|end)\b", lambda found: f"TIMESTAMPTZ '{_time(bounds[found[1]])}'", rule.sql)


def _time(at: int) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S+00")
