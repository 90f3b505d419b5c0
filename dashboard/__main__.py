"""`python -m dashboard`: starts Streamlit's server in this process, with the options of `streamlit.toml`.

Address and port come from the settings.
SIGTERM and SIGINT stop it. The health check is `/_stcore/health`.
"""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path
from typing import Any

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
        "browser.serverAddress": chosen.host,
        "browser.serverPort": chosen.port,
        "logger.level": chosen.log_level.lower(),
    }


def _dotted(tables: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in tables.items():
        flat |= _dotted(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value}
    return flat


def main() -> int:
    """Runs until a signal; the exit status."""
    try:
        chosen = settings()
    except SettingsError as error:
        print(f"dashboard: {error}", file=sys.stderr)  # before any logging is set up
        return 2
    from streamlit.web import bootstrap

    flags = options(chosen)
    bootstrap.load_config_options(flag_options=flags)
    bootstrap.run(str(_APP), is_hello=False, args=[], flag_options=flags)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
