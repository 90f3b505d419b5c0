"""Settings: typed, checked, documented."""

import pytest

from collector.settings import CollectorSettings
from dashboard.settings import DashboardSettings
from lastword.errors import SettingsError
from lastword.settings import Common, describe, load
from service.settings import ServiceSettings, load_settings

SECTIONS = [(ServiceSettings, "service"), (CollectorSettings, "collector"), (DashboardSettings, "dashboard"), (Common, "")]


def test_settings_come_from_the_environment():
    """Text becomes the field's type; common settings have no section in their name."""
    environ = {"LASTWORD_SERVICE_PORT": "9", "LASTWORD_DATA_DIR": "/x", "LASTWORD_SERVICE_CAPTURE_CONTENT": "true"}
    settings = load(ServiceSettings, "service", environ)
    assert (settings.port, settings.data_dir, settings.capture_content, settings.pace_ms) == (9, "/x", True, 25)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("LASTWORD_SERVICE_PORT", "70000"),
        ("LASTWORD_SERVICE_PORT", "eighty"),
        ("LASTWORD_SERVICE_PROVIDER", "oracle"),
        ("LASTWORD_SERVICE_PROT", "1"),
        ("LASTWORD_LOG_LEVEL", "LOUD"),
    ],
)
def test_wrong_setting_is_named(name, value):
    """A value out of range, a wrong word, a misspelt name: the message names the variable."""
    with pytest.raises(SettingsError, match=name):
        load(ServiceSettings, "service", {name: value})


@pytest.mark.parametrize(("cls", "section"), SECTIONS)
def test_every_setting_is_described(cls, section):
    """The docs have a sentence for each."""
    rows = describe(cls, section)
    assert rows
    assert [name for name, _, text in rows if not text] == []


def test_static_keys_are_read_with_their_options(monkeypatch):
    """The keys without their options; an option that nobody knows stops the start, and the message shows no key."""
    monkeypatch.setenv("LASTWORD_SERVICE_API_KEYS", "k1, k2;rate=3")
    assert load_settings().keys == ("k1", "k2")
    monkeypatch.setenv("LASTWORD_SERVICE_API_KEYS", "secret-one;speed=3")
    with pytest.raises(SettingsError, match="entry 1 has an unknown option") as refused:
        load_settings()
    assert "secret-one" not in str(refused.value)
