"""`python -m collector.alerts replay | check`: what alerts would have said of a catalog, or of a file of minutes. `lastword alerts` runs it; no collector is asked.

Writes one JSON object a line to standard output and a progress bar to standard error. Ends with status 1 and a sentence on standard error where a rule is wrong, with 2
where the file cannot be read.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import duckdb
import msgspec
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from collector.alerts import replay
from collector.alerts.alert import Alert
from collector.alerts.evaluator import scans
from collector.alerts.rules import RulesError, check_rules, read_rules
from collector.store.segments import quoted

_LAST_DAY = "2262-01-01"
"""Times are kept in nanoseconds since 1970, in 64 bits."""


class _Unusable(Exception):
    """The file of minutes says what cannot be."""


def main() -> int:
    """Runs a command; the exit status."""
    parser = argparse.ArgumentParser(description="Replays alerts on stored turns.")
    parser.add_argument("command", choices=["replay", "check"])
    parser.add_argument("source", type=Path, help="a catalog, or a Parquet or CSV file of minutes")
    parser.add_argument("--rules", type=Path)
    parser.add_argument("--days", type=float, default=14)
    parser.add_argument("--objective", type=float, default=0.95)
    chosen = parser.parse_args()
    if not math.isfinite(chosen.days):
        parser.error("--days is to be a number of days")
    try:
        with _open(chosen.source) as reader:
            if chosen.command == "check":
                rules = read_rules(chosen.rules)
                check_rules(rules, reader)
            try:
                over = replay.span(reader, chosen.days)
            except replay.NothingStored:
                if chosen.command == "replay":
                    raise
                print(f"{chosen.rules} can be used; there are no stored turns yet to try it on", file=sys.stderr)
                return 0
            with _bar() as progress:
                if chosen.command == "check":
                    for rule in rules:
                        task = progress.add_task(rule.name, total=over.minutes)
                        _print(replay.firings(reader, rule, over, partial(progress.advance, task)))
                else:
                    for scan in scans(chosen.objective):
                        task = progress.add_task(scan.rule, total=over.minutes)
                        found = replay.episodes(reader, scan, over, partial(progress.advance, task))
                        _print(iter(replay.alerts(scan, found)))
    except RulesError as error:
        print(error, file=sys.stderr)
        return 1
    except (duckdb.Error, replay.NothingStored, _Unusable) as error:
        print(f"{chosen.source} cannot be replayed: {error}", file=sys.stderr)
        return 2
    return 0


def _open(source: Path) -> duckdb.DuckDBPyConnection:
    """The catalog, read-only; or a database in memory whose `turn_minutes` are those of a file."""
    if source.suffix not in {".parquet", ".csv"}:
        connection = duckdb.connect(str(source), read_only=True)
        connection.execute("SET TimeZone = 'UTC'")
        connection.execute("BEGIN TRANSACTION READ ONLY")
        return connection
    connection = duckdb.connect(":memory:")
    connection.execute("SET TimeZone = 'UTC'")
    read = "read_parquet" if source.suffix == ".parquet" else "read_csv"
    # Columns that the file does not have are filled: minute, n and broken are enough.
    connection.execute(
        "CREATE TABLE turn_minutes (minute TIMESTAMPTZ, route VARCHAR, tier VARCHAR, model VARCHAR, status VARCHAR, reason VARCHAR, n BIGINT, broken BIGINT, "
        "client_left BIGINT)"
    )
    connection.execute(f"INSERT INTO turn_minutes BY NAME SELECT * FROM {read}({quoted(source)})")
    wrong = connection.execute(
        "SELECT CAST(minute AS VARCHAR), n, broken, client_left FROM turn_minutes WHERE minute IS NULL OR n IS NULL OR broken IS NULL "
        f"OR NOT minute BETWEEN TIMESTAMPTZ '1970-01-01' AND TIMESTAMPTZ '{_LAST_DAY}' "
        "OR n < 0 OR NOT broken BETWEEN 0 AND n OR NOT coalesce(client_left, 0) BETWEEN 0 AND n LIMIT 1"
    ).fetchone()
    if wrong is not None:
        minute, n, broken, client_left = wrong
        raise _Unusable(
            f"minute {minute} has n = {n}, broken = {broken}, client_left = {client_left}: counts lie between 0 and n, minutes between 1970 and {_LAST_DAY}"
        )
    return connection


def _bar() -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    return Progress(*columns, console=Console(stderr=True))


def _print(alerts: Iterator[Alert]) -> None:
    for alert in alerts:
        print(json.dumps(msgspec.to_builtins(alert), ensure_ascii=False), flush=True)


if __name__ == "__main__":
    sys.exit(main())
