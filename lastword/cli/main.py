"""The `lastword` command. Subcommands are imported when they are called, so that `--help` is quick."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import click

from lastword import __version__

_COMMANDS = {
    "up": ("lastword.cli.up", "Run collector, service and dashboard."),
    "ask": ("lastword.cli.ask", "Ask a question and watch the answer stream."),
    "sql": ("lastword.cli.sql", "Run a query over turns and spans."),
    "db": ("lastword.cli.programs", "Look after the store: info, check, prune, export, import, backup, generate."),
    "lake": ("lastword.cli.programs", "See the lake of several collectors; take one out of it."),
    "demo": ("lastword.cli.demo", "Send demo traffic, with faults."),
    "alerts": ("lastword.cli.alerts", "See, silence, test and replay alerts."),
    "check": ("lastword.cli.check", "Check that a server keeps the turn contract."),
    "index": ("lastword.cli.programs", "Index a folder of documents to answer from."),
    "keys": ("lastword.cli.programs", "Make, list and revoke API keys; show usage."),
    "routes": ("lastword.cli.programs", "Check and show the routes; try a message on them."),
}


class _Lazy(click.Group):
    """A group that knows its commands by name and imports each when it is needed."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        module, _ = _COMMANDS[cmd_name]
        command: Any = getattr(import_module(module), cmd_name)
        return command if isinstance(command, click.Command) else None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in _COMMANDS.items()])


@click.group(cls=_Lazy, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="lastword")
def main() -> None:
    """Lastword: observability for streaming LLM turns. The done event has the last word.

    `lastword up` runs the product on this machine; `lastword ask "why is my stream partial?"` asks it something.
    """


if __name__ == "__main__":
    main()
