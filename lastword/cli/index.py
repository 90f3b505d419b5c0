"""`lastword index`: builds the service's full-text index, by running the service's own program."""

from __future__ import annotations

import subprocess
import sys

import click


@click.command(context_settings={"ignore_unknown_options": True, "help_option_names": []})
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def index(arguments: tuple[str, ...]) -> None:
    """Index a folder or a file of Markdown, HTML, text or JSON lines."""
    command = [sys.executable, "-m", "service.retrieval", *arguments]
    sys.exit(subprocess.run(command, check=False).returncode)
