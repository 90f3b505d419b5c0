from __future__ import annotations

import pytest

from dashboard.__main__ import options
from dashboard.settings import SECTION, DashboardSettings
from lastword.errors import SettingsError
from lastword.settings import describe, load


def test_every_setting_is_described() -> None:
    """docs/settings.md is made of these descriptions."""
    assert all(text for _, _, text in describe(DashboardSettings, SECTION))


def test_settings_come_from_their_variables() -> None:
    """Section and field make the name; a misspelt one is refused."""
    assert load(DashboardSettings, SECTION, {"LASTWORD_DASHBOARD_PORT": "9000"}).port == 9000
    with pytest.raises(SettingsError):
        load(DashboardSettings, SECTION, {"LASTWORD_DASHBOARD_PROT": "9000"})


def test_server_listens_on_loopback_and_tells_nobody() -> None:
    """Without settings: loopback only, no usage statistics, no links to outside search in errors, no details of errors on pages."""
    chosen = options(DashboardSettings())
    assert chosen["server.address"] == "127.0.0.1"
    assert chosen["server.port"] == 8501
    assert chosen["browser.gatherUsageStats"] is False
    assert chosen["client.showErrorLinks"] is False
    assert chosen["client.showErrorDetails"] == "none"


def test_theme_has_a_light_and_a_dark_side() -> None:
    """Both are set, with different grounds."""
    chosen = options(DashboardSettings())
    assert chosen["theme.light.backgroundColor"] != chosen["theme.dark.backgroundColor"]


def test_no_file_of_the_surroundings_holds_secrets_and_foreign_names_are_refused() -> None:
    """A folder that the program is started from can neither turn a login on nor off, and a page that a foreign name led here gets no data."""
    chosen = options(DashboardSettings())
    assert chosen["secrets.files"] == []
    assert chosen["server.allowedHosts"] == ["localhost", "127.0.0.1", "::1"]
