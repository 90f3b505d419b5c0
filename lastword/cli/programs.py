"""Commands that are programs of the service or of the collector: `lastword index`, `keys`, `routes`, `db` and `lake` run them with the arguments as they are."""

from __future__ import annotations

import subprocess
import sys

import click


def _program(name: str, module: str, text: str) -> click.Command:
    """A command that hands everything over, `--help` included: the package of the contract knows nothing of the programs."""

    @click.command(name, help=text, context_settings={"ignore_unknown_options": True, "help_option_names": []})
    @click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
    def run(arguments: tuple[str, ...]) -> None:
        sys.exit(subprocess.run([sys.executable, "-m", module, *arguments], check=False).returncode)

    return run


index = _program("index", "service.retrieval", "Index a folder or a file of Markdown, HTML, text or JSON lines.")
keys = _program("keys", "service.access", "Make, list and revoke API keys, and show what they used.")
routes = _program("routes", "service.show_routes", "Check and show the routes, and try a message on them.")
db = _program("db", "collector.db", "Look after the store: what it holds, whether it is whole, copies of it.")
lake = _program("lake", "collector.lake", "See the lake of several collectors, and take one out of it.")
