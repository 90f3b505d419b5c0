"""`lastword keys`: API keys of the service, by running the service's own program."""

from __future__ import annotations

import subprocess
import sys

import click


@click.command(context_settings={"ignore_unknown_options": True, "help_option_names": []})
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def keys(arguments: tuple[str, ...]) -> None:
    """Make, list and revoke API keys, and show what they used."""
    command = [sys.executable, "-m", "service.access", *arguments]
    sys.exit(subprocess.run(command, check=False).returncode)
