"""`lastword ask`: streams a turn to the terminal and ends with its sources, status and timings."""

from __future__ import annotations

import sys

import click
from rich.console import Console
from rich.table import Table

from lastword.client import TurnClient
from lastword.errors import LastwordError, TurnUnreachable
from lastword.events import Ack, Chunk, Done, Error, Known, Timings
from lastword.states import Stage
from lastword.wire import encode_json

EXIT_WHOLE, EXIT_NOT_WHOLE, EXIT_UNREACHABLE = 0, 1, 2
_COLOURS = {"success": "green", "degraded": "yellow", "fallback": "yellow"}


@click.command()
@click.argument("question")
@click.option("--conversation", "conversation_id", help="Continue this conversation.")
@click.option("--route", help="A wish for a route.")
@click.option("--tier", "model_tier", help="A wish for a model tier.")
@click.option("--deadline", "deadline_ms", type=click.IntRange(min=1), help="Time for the whole turn, in milliseconds.")
@click.option("--fault", help="Ask the embedded provider to fail on purpose, e.g. cut_after_text (see docs/providers.md).")
@click.option("--url", envvar="LASTWORD_SERVICE_URL", default="http://127.0.0.1:8000", show_default=True, help="The service.")
@click.option("--api-key", envvar="LASTWORD_API_KEY", help="Key of the service, where it wants one.")
@click.option("--json", "as_json", is_flag=True, help="Print the events as JSON lines instead.")
def ask(
    question: str,
    conversation_id: str | None,
    route: str | None,
    model_tier: str | None,
    deadline_ms: int | None,
    fault: str | None,
    url: str,
    api_key: str | None,
    as_json: bool,
) -> None:
    """Ask QUESTION and watch the answer stream.

    Ends with 0 for a whole answer, 1 for a partial one or an error, 2 where the service cannot be reached or refuses.
    """
    out, err = Console(highlight=False, soft_wrap=True), Console(stderr=True, highlight=False)
    shown: list[str] = []
    last: Known | None = None
    try:
        with TurnClient(url, api_key) as client:
            for event in client.stream(
                question,
                conversation_id=conversation_id,
                route=route,
                model_tier=model_tier,
                deadline_ms=deadline_ms,
                metadata={"fault": fault} if fault else None,
            ):
                last = event
                if as_json:
                    click.echo(encode_json(event).decode())
                else:
                    _show(event, shown, out)
    except KeyboardInterrupt:
        err.print("\nleft; the turn goes on without you" + (f": {last.turn_id}" if last else ""), style="yellow")
        sys.exit(130)
    except TurnUnreachable as error:
        err.print(f"lastword ask: {error}", style="red")
        err.print("Is the product running? Start it with `make up`.")
        sys.exit(EXIT_UNREACHABLE)
    except LastwordError as error:
        err.print(f"lastword ask: {error}", style="red")
        sys.exit(EXIT_UNREACHABLE)
    whole = isinstance(last, Done) and not last.metadata.partial and bool(last.metadata.answer)
    sys.exit(EXIT_WHOLE if whole else EXIT_NOT_WHOLE)


def _show(event: Known, shown: list[str], out: Console) -> None:
    match event:
        case Ack():
            out.print(f"route {event.route}, tier {event.model_tier}", style="dim")
        case Chunk():
            shown.append(event.text)
            click.echo(event.text, nl=False)
            sys.stdout.flush()
        case Done():
            click.echo()
            if event.metadata.answer != "".join(shown):
                out.print("The final answer differs from the text above:", style="yellow")
                click.echo(event.metadata.answer)
            _show_done(event, out)
        case Error():
            out.print(f"error {event.code}: {event.message}", style="red", markup=False)
            if event.retryable:
                out.print("Asking again may help.")
            out.print(f"turn {event.turn_id}", style="dim")


def _show_done(event: Done, out: Console) -> None:
    done = event.metadata
    if done.source_details:
        out.print("\nSources", style="bold")
        for number, source in enumerate(done.source_details, 1):
            title = f"{source.title} " if source.title else ""
            out.print(f"  {number}. {title}", source.url, markup=False)
    status = done.completion_status.value
    partial = " (partial)" if done.partial else ""
    reason = f", {done.reason.value}" if done.reason else ""
    out.print()
    out.print(f"{status}{partial}{reason}", style=_COLOURS.get(status, "red"), end="")
    tools = ", ".join(f"{call.name}: {call.outcome.value}" for call in done.tool_calls)
    out.print(f"  {done.model} · {len(done.attempts)} attempt(s)" + (f" · {tools}" if tools else ""), markup=False)
    out.print(_timings_table(done.stage_timings))
    out.print(f"turn {event.turn_id}  conversation {done.conversation_id}", style="dim")


def _timings_table(timings: Timings) -> Table:
    """Stage by stage, with its share of the whole as a bar."""
    table = Table(box=None, padding=(0, 1), show_header=False)
    table.add_column(style="dim")
    table.add_column(justify="right")
    table.add_column()
    by_key = {
        name: getattr(timings, field)
        for name, field in zip(timings.__struct_encode_fields__, timings.__struct_fields__, strict=True)
    }
    total = max(1, timings.total_ms)
    for stage in Stage:
        ms = by_key[stage.value]
        if ms is not None:
            table.add_row(stage.value.removesuffix("Ms"), f"{ms} ms", "█" * round(24 * ms / total))
    first = "none" if timings.first_token_ms is None else f"{timings.first_token_ms} ms"
    table.add_row("first token", first, "")
    table.add_row("total", f"{timings.total_ms} ms", "")
    return table
