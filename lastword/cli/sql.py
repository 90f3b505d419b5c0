"""`lastword sql`: runs a query on the collector and prints its result."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import httpx2
from msgspec import Struct
from rich.console import Console
from rich.table import Table
from rich.text import Text


class QueryFailed(click.ClickException):
    """The query is wrong, or took too long."""

    exit_code = 1


class CollectorUnreachable(click.ClickException):
    """Nobody answers."""

    exit_code = 2


@click.command()
@click.argument("query", required=False)
@click.option(
    "-f", "--file", "path", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Read the query from a file."
)
@click.option(
    "--format",
    "fmt",
    type=click.Choice(["table", "json", "csv", "arrow", "parquet"]),
    default="table",
    show_default=True,
    help="How to print; arrow and parquet are for a file or a pipe.",
)
@click.option(
    "--catalog",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Read this catalog file (DATA_DIR/collector/catalog.duckdb) instead of asking the collector.",
)
@click.option(
    "--lake", is_flag=True, help="Read the lake of LASTWORD_COLLECTOR_LAKE_DSN instead: the rows of all its collectors."
)
@click.option("--max-rows", type=click.IntRange(min=1), default=1000, show_default=True, help="Rows at most.")
@click.option(
    "--timeout", "timeout_s", type=click.FloatRange(min=0.1, max=30), default=10.0, show_default=True, help="Seconds at most."
)
@click.option(
    "--url", envvar="LASTWORD_COLLECTOR_URL", default="http://127.0.0.1:4318", show_default=True, help="The collector."
)
def sql(
    query: str | None, path: Path | None, fmt: str, catalog: Path | None, lake: bool, max_rows: int, timeout_s: float, url: str
) -> None:
    """Run QUERY over turns and spans, while the collector writes.

    Reads the query from the argument, from a file, or from standard input. Try: select turn_id, completion_status, first_token_ms from turns
    """
    text = path.read_text(encoding="utf-8") if path else query
    if text is None and not sys.stdin.isatty():
        text = sys.stdin.read()
    if lake and catalog:
        raise click.UsageError("--lake and --catalog are two places: choose one")
    if not text or not text.strip():
        raise click.UsageError('give a query, or a file with one: lastword sql "select count(*) from turns"')
    wire = fmt if fmt in {"arrow", "parquet"} else "json"
    if wire != "json" and sys.stdout.isatty():
        raise click.UsageError(f"{fmt} is for a file or a pipe: lastword sql --format {fmt} ... > result.{fmt}")
    limits = _Limits(wire, max_rows, timeout_s)
    place = ["--lake"] if lake else [str(catalog)] if catalog else []
    body, truncated = _run_beside(place, text, limits) if place else _run(url, text, limits)
    if wire == "json":
        result: dict[str, Any] = json.loads(body)
        truncated = result["truncated"]
        _print(result, fmt)
    else:
        sys.stdout.buffer.write(body)
    if truncated:
        click.echo(f"only the first {max_rows} rows are shown; more with --max-rows", err=True)


class _Limits(Struct, frozen=True):
    """What is asked for beside the query."""

    format: str
    max_rows: int
    timeout_s: float


def _print(result: dict[str, Any], fmt: str) -> None:
    match fmt:
        case "json":
            names = [column["name"] for column in result["columns"]]
            click.echo(json.dumps([dict(zip(names, row, strict=True)) for row in result["rows"]], indent=2, ensure_ascii=False))
        case "csv":
            click.echo(_csv(result), nl=False)
        case _:
            # Without a terminal nothing has to fit: a pipe gets whole lines.
            Console(highlight=False, width=None if sys.stdout.isatty() else 10_000).print(_table(result))


def _run(url: str, query: str, limits: _Limits) -> tuple[bytes, bool]:
    body = {
        "sql": query,
        "format": limits.format,
        "maxRows": limits.max_rows,
        "timeoutMs": round(limits.timeout_s * 1000),
    }
    try:
        response = httpx2.post(f"{url.rstrip('/')}/v1/sql", json=body, timeout=limits.timeout_s + 10, trust_env=False)
    except httpx2.HTTPError as error:
        raise CollectorUnreachable(
            f"no answer from {url}: {error}\nIs the product running? Start it with `make up`."
        ) from error
    if response.is_success:
        return response.content, response.headers.get("lastword-truncated") == "true"
    try:
        detail = response.json()["detail"]
    except (ValueError, KeyError, TypeError):
        detail = f"HTTP {response.status_code}"
    raise QueryFailed(detail)


def _run_beside(place: list[str], query: str, limits: _Limits) -> tuple[bytes, bool]:
    """Runs the query in a program of the collector's: this package knows no database."""
    options = [
        "--format",
        limits.format,
        "--max-rows",
        str(limits.max_rows),
        "--timeout-ms",
        str(round(limits.timeout_s * 1000)),
    ]
    done = subprocess.run(
        [sys.executable, "-m", "collector.sql", *place, *options], input=query.encode(), capture_output=True, check=False
    )
    said = done.stderr.decode(errors="replace").strip()
    if done.returncode:
        raise (QueryFailed if done.returncode == 1 else CollectorUnreachable)(said or f"ended with status {done.returncode}")
    return done.stdout, bool(said)


def _table(result: dict[str, Any]) -> Table:
    table = Table()
    for column in result["columns"]:
        numeric = column["type"].startswith(("int", "uint", "double", "float", "decimal"))
        table.add_column(column["name"], justify="right" if numeric else "left", overflow="fold")
    for row in result["rows"]:
        table.add_row(*(_cell(value) for value in row))
    return table


def _cell(value: object) -> Text:
    if value is None:
        return Text("null", style="dim italic")
    if isinstance(value, list | dict):
        return Text(json.dumps(value, ensure_ascii=False))
    if isinstance(value, float):
        return Text(f"{value:g}")
    return Text(str(value))


def _csv(result: dict[str, Any]) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(column["name"] for column in result["columns"])
    for row in result["rows"]:
        writer.writerow(json.dumps(value, ensure_ascii=False) if isinstance(value, list | dict) else value for value in row)
    return out.getvalue()
