"""`lastword check`: does a server keep the turn contract?"""

from __future__ import annotations

import signal
import sys
import tempfile
import threading
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import click
from msgspec import Struct
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from lastword.check import report as reports
from lastword.check.bench import Bench, Options
from lastword.check.case import Case, Level, select
from lastword.check.exchange import Budget, Exchange, OutOfTime, Target, Unreachable
from lastword.check.preflight import NoTurnServer, look
from lastword.check.process import CannotStart, Process
from lastword.check.provider import FakeProvider
from lastword.check.runner import Report, Result, Verdict, run_all
from lastword.check.sink import Sink

EXIT_CONFORMS, EXIT_FAILS, EXIT_NO_TURN_SERVER, EXIT_INTERRUPTED, EXIT_TERMINATED = 0, 1, 2, 130, 143
_MARKS = {
    Verdict.PASSED: ("✓", "green"),
    Verdict.FAILED: ("✗", "red"),
    Verdict.SKIPPED: ("–", "yellow"),
    Verdict.BROKEN: ("!", "magenta"),
}


class _Asked(Struct, frozen=True, kw_only=True):
    """What the command line said about the server and the sides around it."""

    url: str
    start: str | None
    env: tuple[str, ...]
    provider_port: int | None
    otlp_port: int | None


@click.command()
@click.argument("url", required=False)
@click.option("--list", "listed", is_flag=True, help="List the cases and stop.")
@click.option("--explain", "explained", metavar="ID", help="Explain a case; with a URL, run it and show the bytes seen.")
@click.option(
    "--only", multiple=True, metavar="ID", help="Only these cases or groups, such as P25, 25, P or resume. Repeatable."
)
@click.option(
    "--level",
    type=click.Choice([level.value for level in Level], case_sensitive=False),
    default=Level.MAY.value,
    show_default=True,
    help="Only cases that bind this much or more.",
)
@click.option("--start", metavar="COMMAND", help="Start the server with this command; lifecycle cases stop and kill it.")
@click.option("--env", multiple=True, metavar="NAME=VALUE", help="Environment of the started server. Repeatable; see below.")
@click.option(
    "--env-file", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="The same from a file, a line each."
)
@click.option(
    "--provider-port", type=click.IntRange(0, 65535), help="Port of the fake provider for a server that runs already."
)
@click.option("--otlp-port", type=click.IntRange(0, 65535), help="Port of the OTLP sink for a server that runs already.")
@click.option("--api-key", envvar="LASTWORD_API_KEY", help="Key of the caller.")
@click.option("--other-key", help="Key of another caller, for case R51.")
@click.option("--limited-key", help="Key with a small rate limit, for the 429 of case V73.")
@click.option("--route", help="Ask for this route in every turn.")
@click.option(
    "--random-turns", type=click.IntRange(1, 100_000), default=500, show_default=True, help="Random scripts of case G15."
)
@click.option("--races", type=click.IntRange(1, 10_000), default=200, show_default=True, help="Races of case C55.")
@click.option("--aborts", type=click.IntRange(1, 10_000), default=200, show_default=True, help="Aborted turns of case C59.")
@click.option("--slow-turns", type=click.IntRange(1, 1000), default=200, show_default=True, help="Slow turns of case F63.")
@click.option("--seed", type=int, default=1, show_default=True, help="Seed of the random cases.")
@click.option(
    "--limit", "limit_s", type=click.FloatRange(min=1), default=1800.0, show_default=True, help="Seconds for the whole run."
)
@click.option("--strict", is_flag=True, help="Fail where a SHOULD fails, too.")
@click.option(
    "--json", "json_path", type=click.Path(dir_okay=False, allow_dash=True), help="Write the report as JSON (- for stdout)."
)
@click.option("--junit", "junit_path", type=click.Path(dir_okay=False, path_type=Path), help="Write the report as JUnit XML.")
def check(
    url: str | None,
    listed: bool,
    explained: str | None,
    only: tuple[str, ...],
    level: str,
    start: str | None,
    env: tuple[str, ...],
    env_file: Path | None,
    provider_port: int | None,
    otlp_port: int | None,
    api_key: str | None,
    other_key: str | None,
    limited_key: str | None,
    route: str | None,
    random_turns: int,
    races: int,
    aborts: int,
    slow_turns: int,
    seed: int,
    limit_s: float,
    strict: bool,
    json_path: str | None,
    junit_path: Path | None,
) -> None:
    """Check that the server at URL keeps the turn contract.

    A client on raw sockets asks; the server's model is a fake provider of ours, and its telemetry goes to a sink of ours. With --start the
    server gets their addresses in its environment: ANTHROPIC_BASE_URL, ANTHROPIC_API_KEY, OTEL_EXPORTER_OTLP_ENDPOINT, OTEL_EXPORTER_OTLP_PROTOCOL, HOST
    and PORT; in --env and --start, {provider}, {otlp}, {host}, {port} and {work} (an empty folder) are filled in. For a server that runs already, point it
    at --provider-port and --otlp-port yourself; cases whose side is missing are skipped.

    Ends with 0 where no MUST failed, 1 where one did, 2 where there is no turn server to check, 130 where it was interrupted.
    """
    cases = _select([*only, *([explained] if explained else [])], level)
    if listed:
        _print_list(cases)
        return
    if url is None:
        if explained:
            click.echo("\n\n".join(reports.explain(case, None) for case in cases))
            return
        raise click.UsageError("which server? For example: lastword check http://127.0.0.1:8000")
    _refuse_unusable({"--api-key": api_key, "--other-key": other_key, "--limited-key": limited_key}, [json_path, junit_path])
    options = Options(
        api_key=api_key,
        other_key=other_key,
        limited_key=limited_key,
        route=route,
        random_turns=random_turns,
        races=races,
        aborts=aborts,
        slow_turns=slow_turns,
        seed=seed,
    )
    lines = env_file.read_text(encoding="utf-8", errors="replace").splitlines() if env_file else []
    kept = tuple(line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#"))
    asked = _Asked(url=url, start=start, env=(*kept, *env), provider_port=provider_port, otlp_port=otlp_port)
    console = Console(stderr=json_path == "-", highlight=False, soft_wrap=True)
    try:
        report = _run(asked, options, cases, limit_s, console)
    except (NoTurnServer, CannotStart) as verdict:
        click.echo(f"lastword check: {verdict}", err=True)
        sys.exit(EXIT_NO_TURN_SERVER)
    except KeyboardInterrupt:
        click.echo("lastword check: interrupted", err=True)
        sys.exit(EXIT_INTERRUPTED)
    _write(report, json_path, junit_path, strict=strict)
    _print_report(report, console, explained=bool(explained))
    sys.exit(EXIT_CONFORMS if report.conforms(strict=strict) else EXIT_FAILS)


def _refuse_unusable(keys: dict[str, str | None], paths: list[str | Path | None]) -> None:
    """What could only fail later, perhaps after half an hour."""
    for name, key in keys.items():
        if key is not None and not all("!" <= character <= "~" for character in key):
            raise click.UsageError(f"{name} cannot stand in a header: plain ASCII without blanks is expected")
    for path in paths:
        if path and path != "-" and not Path(path).parent.is_dir():
            raise click.UsageError(f"{path} cannot be written: there is no folder {Path(path).parent}")


def _write(report: Report, json_path: str | None, junit_path: Path | None, *, strict: bool) -> None:
    if json_path == "-":
        click.echo(reports.as_json(report))
    elif json_path:
        Path(json_path).write_text(reports.as_json(report), encoding="utf-8")
    if junit_path:
        junit_path.write_text(reports.as_junit(report, strict=strict), encoding="utf-8")


def _select(only: list[str], level: str) -> list[Case]:
    try:
        return select(only, Level(level.upper()))
    except ValueError as error:
        raise click.UsageError(str(error)) from error


def _run(asked: _Asked, options: Options, cases: list[Case], limit_s: float, console: Console) -> Report:
    try:
        target = Target.of(asked.url)
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    with ExitStack() as stack:
        _end_on_term(stack)
        provider = sink = process = None
        if asked.start is not None or asked.provider_port is not None:
            provider = stack.enter_context(_listening(FakeProvider, asked.provider_port))
        if asked.start is not None or asked.otlp_port is not None:
            sink = stack.enter_context(_listening(Sink, asked.otlp_port))
        if asked.start is not None:
            work = stack.enter_context(tempfile.TemporaryDirectory(prefix="lastword-check-"))
            places = {"host": target.host, "port": str(target.port), "work": work}
            places |= {"provider": provider.url if provider else "", "otlp": sink.url if sink else ""}
            process = _process(asked, target, places)
            stack.callback(process.close)
            if _answers(target):
                raise CannotStart(f"something answers at {target.url} already: stop it, or check it without --start")
            with console.status(f"starting {asked.start}"):
                process.start()
        bench = Bench(target, options, provider=provider, sink=sink, process=process)
        bench.facts = look(bench)
        if provider is not None and not provider.seen:
            console.print(
                "The server answered without calling the fake provider: cases that need it are skipped.", style="yellow"
            )
            bench.without_provider()
        return _run_with_progress(bench, cases, limit_s, console)


def _end_on_term(stack: ExitStack) -> None:
    """A SIGTERM, such as that of a CI job that ran out of time, ends the server that we started as well."""

    def leave(*_: object) -> None:
        sys.exit(EXIT_TERMINATED)

    if threading.current_thread() is threading.main_thread():
        stack.callback(signal.signal, signal.SIGTERM, signal.signal(signal.SIGTERM, leave))


def _listening(side: type[Any], port: int | None) -> Any:
    try:
        return side(port or 0)
    except OSError as error:
        raise click.UsageError(f"port {port} cannot be used: {error.strerror}") from error


def _process(asked: _Asked, target: Target, places: dict[str, str]) -> Process:
    environment = {
        "ANTHROPIC_BASE_URL": places["provider"],
        "ANTHROPIC_API_KEY": "sk-ant-check",
        "OTEL_EXPORTER_OTLP_ENDPOINT": places["otlp"],
        "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
        "HOST": places["host"],
        "PORT": places["port"],
        "PYTHONUNBUFFERED": "1",
    }
    for pair in asked.env:
        name, equals, value = pair.partition("=")
        if not equals or not name.strip():
            raise click.UsageError(f"--env {pair!r}: expected NAME=VALUE")
        environment[name.strip()] = _fill(value, places)
    log = Path(places["work"]) / "server.log"
    return Process(_fill(asked.start or "", places), environment, log, lambda: _answers(target))


def _fill(text: str, places: dict[str, str]) -> str:
    for name, value in places.items():
        text = text.replace(f"{{{name}}}", value)
    return text


def _answers(target: Target) -> bool:
    """Whether the server says that it is ready, or, where it has no such address, answers at all."""
    try:
        exchange = Exchange(target, "GET", "/health/ready", [], b"", Budget(2))
    except Unreachable:
        return False
    try:
        return exchange.read_head().status in {200, 404}
    except OutOfTime:
        return False
    finally:
        exchange.leave()


def _run_with_progress(bench: Bench, cases: list[Case], limit_s: float, console: Console) -> Report:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("checking", total=len(cases))

        def told(case: Case, result: Result | None) -> None:
            if result is None:
                progress.update(task, description=f"{case.id} {case.title}")
            else:
                progress.advance(task)
                progress.console.print(_line(result))

        return run_all(bench, cases, limit_s=limit_s, told=told)


def _line(result: Result) -> Text:
    """One case's line, with its message below where it did not pass."""
    mark, colour = _MARKS[result.verdict]
    line = Text(f"{mark} ", style=colour)
    line.append(f"{result.case.id:<4}", style="bold")
    line.append(
        f" {result.case.level.value:<7}{result.case.title}", style="" if result.verdict is not Verdict.SKIPPED else "dim"
    )
    line.append(f"  {result.seconds:.1f} s", style="dim")
    if result.message:
        line.append(f"\n       {result.message}", style=colour)
    for note in result.notes:
        line.append(f"\n       {note}", style="dim")
    return line


def _print_list(cases: list[Case]) -> None:
    group = ""
    for case in cases:
        if case.group != group:
            group = case.group
            click.echo(f"\n{group}")
        click.echo(f"  {case.id:<4} {case.level.value:<7} {case.title}")


def _print_report(report: Report, console: Console, *, explained: bool) -> None:
    if explained:
        for one in report.results:
            console.print(Text(f"\n{reports.explain(one.case, one)}"))
        return
    table = Table(box=None, padding=(0, 2))
    for name in ("group", *(verdict.value for verdict in Verdict)):
        table.add_column(name, justify="left" if name == "group" else "right")
    groups = list(dict.fromkeys(one.case.group for one in report.results))
    for group in groups:
        inside = [one for one in report.results if one.case.group == group]
        counts = [sum(1 for one in inside if one.verdict is verdict) for verdict in Verdict]
        table.add_row(group, *(str(count) if count else "" for count in counts))
    console.print()
    console.print(table)
    failed = [one for one in report.results if one.verdict in {Verdict.FAILED, Verdict.BROKEN}]
    if failed:
        console.print(f"\nWhat was seen: lastword check {report.url} --explain {failed[0].case.id} …")
    console.print(f"\n{reports.summary(report)}  ({report.seconds:.0f} s)", style="green" if report.conforms() else "red")
