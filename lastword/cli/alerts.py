"""`lastword alerts`: what fires, why, what was told; silences, a test; and what the alerts would have said of stored turns."""

from __future__ import annotations

import json
import math
import re
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import click
import httpx2
from rich.console import Console
from rich.table import Table
from rich.text import Text

from lastword.cli.sql import CollectorUnreachable, QueryFailed

_URL = click.option(
    "--url", envvar="LASTWORD_COLLECTOR_URL", default="http://127.0.0.1:4318", show_default=True, help="The collector."
)
_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
_SOURCE = click.option(
    "--source",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Catalog, or Parquet or CSV file with minute, route, tier, n and broken.  [default: DATA_DIR/collector/catalog.duckdb]",
)
_DATA_DIR = click.option(
    "--data-dir", envvar="LASTWORD_DATA_DIR", default="data", show_default=True, help="Where the collector stores."
)
_DURATION = re.compile(r"^(\d+)\s*(m|min|h|d)$")
_MINUTES = {"m": 1, "min": 1, "h": 60, "d": 1440}
_TOLD_S = 15.0

_LIST = """
SELECT alert_id, state, severity, role, rule, fired_at, resolved_at, summary
FROM alerts WHERE ($firing AND state = 'firing') OR (NOT $firing AND (state = 'firing' OR fired_at >= now() - to_days($days)))
ORDER BY state = 'firing' DESC, fired_at DESC
"""
_ONE = "SELECT * FROM alerts WHERE starts_with(alert_id, $id) ORDER BY fired_at DESC LIMIT 2"
_EVENTS = "SELECT happened_at, change, summary FROM alert_events WHERE alert_id = $id ORDER BY happened_at, event_id"
_DELIVERIES = "SELECT receiver, event_id, state, attempts, delivered_at, error FROM alert_deliveries WHERE alert_id = $id ORDER BY queued_at, receiver"
_SILENCES = "SELECT silence_id, rule, route, model_tier, starts_at, ends_at, comment FROM alert_silences WHERE ends_at > now() ORDER BY ends_at"


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def alerts() -> None:
    """See alerts, silence and test them, and replay them on stored turns."""


@alerts.command("list")
@click.option("--firing", is_flag=True, help="Only those that fire now.")
@click.option("--days", type=click.IntRange(1, 400), default=7, show_default=True, help="How far back.")
@_JSON
@_URL
def list_alerts(firing: bool, days: int, as_json: bool, url: str) -> None:
    """List alerts, those that fire first."""
    rows = _query(url, _LIST, {"firing": firing, "days": days})
    if as_json:
        click.echo(json.dumps(rows, indent=2, ensure_ascii=False))
    elif rows:
        _print([row | {"alert_id": row["alert_id"][:8]} for row in rows])
    else:
        click.echo("nothing fires" if firing else f"no alert in the last {days} days")


@alerts.command()
@click.argument("alert_id")
@_JSON
@_URL
def show(alert_id: str, as_json: bool, url: str) -> None:
    """Show an alert whole: what happened, what stands out, who was told. The first letters of its id are enough."""
    found = _query(url, _ONE, {"id": alert_id})
    if len(found) != 1:
        raise click.UsageError(
            f"no alert begins with {alert_id!r}" if not found else f"more than one alert begins with {alert_id!r}"
        )
    alert = found[0]
    for name in ("labels", "explanation"):
        alert[name] = json.loads(alert[name]) if alert[name] else None
    events = _query(url, _EVENTS, {"id": alert["alert_id"]})
    deliveries = _query(url, _DELIVERIES, {"id": alert["alert_id"]})
    if as_json:
        click.echo(json.dumps(alert | {"events": events, "deliveries": deliveries}, indent=2, ensure_ascii=False))
        return
    explanation = alert.pop("explanation") or {}
    console = _console()
    for name, value in alert.items():
        if value not in (None, {}):
            console.print(f"{name:>15}  {_cell(value)}", markup=False)
    for name in ("slices", "reasons", "traces"):
        if rows := explanation.get(name):
            console.print(f"\n{name}", style="bold")
            _print(
                [
                    {key: json.dumps(each, ensure_ascii=False) if isinstance(each, dict) else each for key, each in row.items()}
                    for row in rows
                ]
            )
    for name, rows in (("events", events), ("deliveries", deliveries)):
        if rows:
            console.print(f"\n{name}", style="bold")
            _print(rows)


@alerts.command()
@_URL
def test(url: str) -> None:
    """Send every receiver a test, and say who took it."""
    sent = _ask("POST", url, "/v1/alerts/test", {})["deliveries"]
    if not sent:
        click.echo("no receiver is set: see LASTWORD_COLLECTOR_ALERTS_* in docs/settings.md")
        return
    ids = [one["deliveryId"] for one in sent]
    sql = "SELECT receiver, state, error FROM alert_deliveries WHERE list_contains($ids, delivery_id) ORDER BY receiver"
    end = time.monotonic() + _TOLD_S
    while True:
        rows = _query(url, sql, {"ids": ids})
        if all(row["state"] != "waiting" or row["error"] for row in rows) or time.monotonic() > end:
            break
        time.sleep(0.2)
    _print(rows)
    if any(row["state"] != "delivered" for row in rows):
        sys.exit(1)


@alerts.command()
@click.option("--rule", help="Only this rule.")
@click.option("--route", help="Only this route.")
@click.option("--tier", "model_tier", help="Only this model tier.")
@click.option("--for", "duration", default="1h", show_default=True, help="For how long: 30m, 2h, 1d; 30 days at most.")
@click.option("--comment", default="", help="Why, for those who look.")
@click.option("--end", "silence_id", help="End the silence of this id.")
@click.option("--list", "listed", is_flag=True, help="List the silences that hold.")
@_URL
def silence(
    rule: str | None,
    route: str | None,
    model_tier: str | None,
    duration: str,
    comment: str,
    silence_id: str | None,
    listed: bool,
    url: str,
) -> None:
    """Tell nobody of some alerts, or of all, for a while. What fires is written down all the same."""
    if listed:
        rows = _query(url, _SILENCES, {})
        if rows:
            _print(rows)
        else:
            click.echo("no silence holds")
        return
    for option, value in (("--end", silence_id), ("--rule", rule), ("--route", route), ("--tier", model_tier)):
        if value is not None and not value.strip():
            raise click.UsageError(f"{option}: is empty")
    if silence_id is not None:
        _ask("DELETE", url, f"/v1/alerts/silences/{quote(silence_id, safe='')}")
        click.echo(f"ended {silence_id}")
        return
    found = _DURATION.match(duration)
    if not found:
        raise click.UsageError(f"--for {duration}: a number with m, h or d is expected, such as 30m")
    minutes = int(found[1]) * _MINUTES[found[2]]
    body = {"minutes": minutes, "comment": comment}
    body |= {name: value for name, value in (("rule", rule), ("route", route), ("modelTier", model_tier)) if value is not None}
    made = _ask("POST", url, "/v1/alerts/silences", body)
    until = datetime.fromtimestamp(made["endsNs"] / 1e9, UTC)
    click.echo(f"silenced until {until:%Y-%m-%d %H:%M} UTC; end it with: lastword alerts silence --end {made['silenceId']}")


@alerts.command()
@click.option(
    "--days", type=click.FloatRange(min=0.01, max=400), default=14, show_default=True, help="How many of the last days."
)
@click.option(
    "--objective",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    default=0.95,
    show_default=True,
    help="Promised share of whole turns.",
)
@_SOURCE
@_DATA_DIR
@_JSON
def replay(days: float, objective: float, source: Path | None, data_dir: str, as_json: bool) -> None:
    """Say what the detector would have fired on stored turns, as its present version judges them.

    Reads the catalog, not the collector. Symptoms of an incident are listed with it; only a root wakes somebody.
    """
    if not math.isfinite(days):
        raise click.UsageError("--days: a number of days is expected")
    found = _replayed("replay", _source(source, data_dir), "--days", str(days), "--objective", str(objective))
    _show_replayed(found, as_json, f"nothing would have fired in the last {days:g} days")


@alerts.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--days", type=click.FloatRange(min=0.01, max=400), default=1, show_default=True, help="How many of the last days."
)
@_SOURCE
@_DATA_DIR
@_JSON
def check(file: Path, days: float, source: Path | None, data_dir: str, as_json: bool) -> None:
    """Check the rules in FILE, and run them on stored turns: what would have fired, and when."""
    found = _replayed("check", _source(source, data_dir), "--rules", str(file), "--days", str(days))
    _show_replayed(found, as_json, f"the rules are right, and nothing would have fired in the last {days:g} days")


def _source(source: Path | None, data_dir: str) -> Path:
    if source is not None:
        return source
    path = Path(data_dir).expanduser() / "collector" / "catalog.duckdb"
    if not path.exists():
        raise click.UsageError(f"there is no catalog at {path}: say where it is with --data-dir or --source")
    return path


def _replayed(command: str, source: Path, *options: str) -> list[dict[str, Any]]:
    """Runs a program of the collector's: this package knows no database. Its progress bar goes to the terminal."""
    done = subprocess.run(
        [sys.executable, "-m", "collector.alerts", command, str(source), *options], stdout=subprocess.PIPE, check=False
    )
    if done.returncode:
        sys.exit(done.returncode)
    return [json.loads(line) for line in done.stdout.splitlines()]


def _show_replayed(found: list[dict[str, Any]], as_json: bool, nothing: str) -> None:
    found.sort(key=lambda alert: alert["fired_ns"])
    if as_json:
        click.echo(json.dumps(found, indent=2, ensure_ascii=False))
    elif found:
        _print([_line(alert) for alert in found])
    else:
        click.echo(nothing)


def _line(alert: dict[str, Any]) -> dict[str, Any]:
    lasted = None if alert["resolved_ns"] is None else (alert["resolved_ns"] - alert["fired_ns"]) // 60_000_000_000
    fired = datetime.fromtimestamp(alert["fired_ns"] / 1e9, UTC)
    return {
        "fired": f"{fired:%Y-%m-%d %H:%M}",
        "minutes": "firing" if lasted is None else lasted,
        "severity": alert["severity"],
        "role": alert["role"],
        "rule": alert["rule"],
        "summary": alert["summary"],
    }


# --- the collector


def _query(url: str, sql: str, params: dict[str, Any]) -> list[dict[str, Any]]:
    result = _ask("POST", url, "/v1/sql", {"sql": sql, "params": params})
    names = [column["name"] for column in result["columns"]]
    return [dict(zip(names, row, strict=True)) for row in result["rows"]]


def _ask(method: str, url: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
    try:
        response = httpx2.request(method, f"{url.rstrip('/')}{path}", json=body, timeout=20, trust_env=False)
    except httpx2.HTTPError as error:
        raise CollectorUnreachable(
            f"no answer from {url}: {error}\nIs the product running? Start it with `make up`."
        ) from error
    if not response.is_success:
        try:
            detail = response.json()["detail"]
        except (ValueError, KeyError, TypeError):
            detail = ""
        raise QueryFailed(detail or f"HTTP {response.status_code}")
    answer: dict[str, Any] = response.json() if response.content else {}
    return answer


def _console() -> Console:
    # Without a terminal nothing has to fit: a pipe gets whole lines.
    return Console(highlight=False, width=None if sys.stdout.isatty() else 10_000)


def _print(rows: list[dict[str, Any]]) -> None:
    table = Table()
    for name, value in rows[0].items():
        table.add_column(name, justify="right" if isinstance(value, int | float) else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(_cell(value)) for value in row.values()))
    _console().print(table)


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.4g}"
    return json.dumps(value, ensure_ascii=False) if isinstance(value, dict | list) else str(value)
