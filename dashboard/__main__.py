"""`python -m dashboard`: starts Streamlit's server in this process, with the options of `streamlit.toml`.

Address, port and login come from the settings.
SIGTERM and SIGINT stop it. The health check is `/_stcore/health`.
"""

from __future__ import annotations

import gc
import importlib
import sys
import tomllib
from pathlib import Path
from typing import Any

from dashboard import access
from dashboard.settings import DashboardSettings, settings
from lastword.errors import SettingsError

_APP = Path(__file__).with_name("script") / "app.py"
_OPTIONS = Path(__file__).with_name("streamlit.toml")


def options(chosen: DashboardSettings) -> dict[str, Any]:
    """Streamlit's options by their dotted names."""
    tables = tomllib.loads(_OPTIONS.read_text(encoding="utf-8"))
    return _dotted(tables) | {
        "server.address": chosen.host,
        "server.port": chosen.port,
        "secrets.files": [],
        "server.allowedHosts": access.hosts(chosen),
        "browser.serverAddress": chosen.host,
        "browser.serverPort": chosen.port,
        "logger.level": chosen.log_level.lower(),
    }


def _dotted(tables: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in tables.items():
        flat |= _dotted(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value}
    return flat


def _prepare() -> None:
    """Loads what the script will need, so that no visitor waits for it, and keeps it out of every later collection of garbage."""
    for page in ("alerts", "evidence", "overview", "partials", "pipeline", "sql", "stages", "turn", "turns"):
        importlib.import_module(f"dashboard.views.{page}")
    gc.collect()
    gc.freeze()


def main() -> int:
    """Runs until a signal; the exit status."""
    try:
        chosen = settings()
        access.check(chosen)
        auth = access.credentials(chosen)
    except (SettingsError, OSError) as error:
        print(f"dashboard: {error}", file=sys.stderr)  # before any logging is set up
        return 2
    from streamlit import net_util
    from streamlit.runtime.secrets import secrets_singleton
    from streamlit.web import bootstrap

    net_util.get_external_ip = lambda: None  # it asks a host outside whenever a browser comes by a strange name
    if auth is not None:
        secrets_singleton.merge_programmatic_secrets({"auth": auth})  # so that no secret is written to a file
    _prepare()
    flags = options(chosen)
    bootstrap.load_config_options(flag_options=flags)
    bootstrap.run(str(_APP), is_hello=False, args=[], flag_options=flags)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
