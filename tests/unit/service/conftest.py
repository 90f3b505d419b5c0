"""What the service's unit tests share."""

import pytest

from service.store.engine import migrate, open_engine


@pytest.fixture
def engine(tmp_path):
    """A database of its own, at the newest schema, in a folder that was not there."""
    engine = open_engine(f"sqlite:///{tmp_path}/deep/turns.sqlite")
    migrate(engine)
    yield engine
    engine.dispose()
