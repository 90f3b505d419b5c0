"""`python -m tests.fuzz`: starts the service, and lets schemathesis ask it whatever its OpenAPI document allows, and what it does not.

Half of the time goes to turns that exist, half to any path. Exit codes: 0 nothing found, 1 an answer that is a 5xx or that the document does not know.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

import click

from tests.support.service import Service

CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"
SPARE_S = 60
_EXISTING = """
[[operations]]
include-path-regex = "turn_id"
parameters = {{ "path.turn_id" = "{turn_id}" }}
"""


def fuzz(seconds, seed, folder, *, quiet=False):
    """Fuzzes a service that lives in this folder; the status, and what was said."""
    service = Service(Path(folder) / "data", LASTWORD_SERVICE_PACE_MS="0", LASTWORD_SERVICE_HEARTBEAT_MS="1000")
    try:
        turn_id = service.ask().headers["turn-id"]
        told, status = "", 0
        for number, config in enumerate((_EXISTING.format(turn_id=turn_id), "")):
            path = Path(folder) / f"schemathesis-{number}.toml"
            path.write_text(config)
            command = [str(Path(sys.executable).with_name("schemathesis")), "--config-file", str(path)]
            command += ["run", f"{service.url}/schema/openapi.json", "--max-time", str(max(1, seconds // 2))]
            command += [
                "--checks",
                CHECKS,
                "--seed",
                str(seed + number),
                "--request-timeout",
                "30",
                "--warnings",
                "off",
                "--no-color",
            ]
            output = subprocess.PIPE if quiet else None
            run = subprocess.run(
                command,
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT if quiet else None,
                text=True,
                timeout=seconds + SPARE_S,
                check=False,
            )
            told += run.stdout or ""
            status = status or run.returncode
        if service.http.get("/health/live").status_code != 200:
            return 1, told + "\nthe service is not well afterwards"
        return status, told
    finally:
        service.stop()


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--seconds", type=click.IntRange(2, 3600), default=600, show_default=True, help="How long to ask.")
@click.option("--seed", type=int, default=1, show_default=True, help="The same seed asks the same, as far as the time goes.")
def main(seconds, seed):
    """Ask the service at random, and look for answers that it should not give."""
    with tempfile.TemporaryDirectory(prefix="lastword-fuzz-") as folder:
        status, _ = fuzz(seconds, seed, folder)
    sys.exit(1 if status else 0)


if __name__ == "__main__":
    main(prog_name="python -m tests.fuzz")
