"""The lake's connection string: understood in both forms, completed, and never told with its password."""

from urllib.parse import quote

import pytest
from psycopg.conninfo import conninfo_to_dict

from collector.lake.dsn import Dsn, LakeUnusable
from collector.lake.engine import attach
from collector.lake.registrar import ID_NAME, check_lake

PASSWORDS = ["geheim", "p@ss word", "quote'd", 'a"b\\c', "100%/x"]


@pytest.mark.parametrize("password", PASSWORDS)
def test_password_is_in_the_string_and_in_no_message(password):
    """Whatever characters it has, and however a driver quotes the string."""
    dsn = Dsn(_url(password))
    assert conninfo_to_dict(dsn.text("me"))["password"] == password
    assert password not in dsn.shown()
    assert password not in repr(dsn)
    assert password not in dsn.hide(f"cannot connect to {dsn.text('me')} or {_url(password)}: {password}")


def _url(password):
    return f"postgresql://u:{quote(password, safe='')}@h:5/d"


def test_string_is_completed_but_not_overruled():
    """Connections end by themselves where the other side is gone, unless the operator says otherwise."""
    parts = conninfo_to_dict(Dsn("host=h connect_timeout=60").text("me"))
    assert parts["connect_timeout"] == "60"
    assert "idle_in_transaction_session_timeout" in parts["options"]
    assert parts["application_name"] == "me"
    assert Dsn("postgresql+psycopg://u@h/d").shown() == "host=h dbname=d user=u"


def test_string_that_is_none_is_refused_without_being_quoted():
    """The operator may have pasted a password."""
    with pytest.raises(LakeUnusable) as raised:
        Dsn("geheim and more")
    assert "geheim" not in str(raised.value)


@pytest.mark.parametrize("password", PASSWORDS)
def test_lake_out_of_reach_is_told_without_the_password(password):
    """DuckDB's own message has the whole string."""
    with pytest.raises(LakeUnusable) as raised:
        attach(Dsn(_url(password).replace("@h:5", "@127.0.0.1:1")), "me")
    assert "Connection refused" in str(raised.value)
    assert password not in str(raised.value)
    assert raised.value.__cause__ is None


def test_settings_that_would_never_work_are_refused_at_the_start(tmp_path):
    """A lake without a folder, one around the store, and a store in a lake whose collector does not know of it."""
    store = tmp_path / "a" / "collector"
    store.mkdir(parents=True)
    check_lake("", "", store)
    check_lake("host=h", str(tmp_path / "lake"), store)
    with pytest.raises(LakeUnusable, match="LAKE_PATH is needed"):
        check_lake("host=h", "", store)
    with pytest.raises(LakeUnusable, match="must not lie around"):
        check_lake("host=h", str(tmp_path), store)
    (store / ID_NAME).write_text("x")
    with pytest.raises(LakeUnusable, match="lastword lake leave"):
        check_lake("", "", store)
