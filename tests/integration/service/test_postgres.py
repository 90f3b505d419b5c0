"""The service's store on a real PostgreSQL: the same properties as on SQLite, and a whole service on top."""

import pytest
from sqlalchemy import text

from service.store.engine import migrate, open_engine
from service.store.store import TurnStore
from tests.integration.service.test_http import turn_of
from tests.support.postgres import PROGRAMS, postgres
from tests.support.service import Service
from tests.unit.service.access.test_limits import (  # noqa: F401 - the same tests, collected here for this engine
    test_bucket_holds_a_minute_and_refills_evenly,
    test_limit_is_exact_for_many_threads_and_two_engines,
    test_quota_of_the_day_is_used_up_and_comes_back_at_midnight,
    test_refused_claim_stores_nothing,
    test_replay_costs_nothing,
    test_usage_is_counted_once_with_the_terminal,
    test_usage_is_summed_over_processes_and_kept_by_day,
)
from tests.unit.service.test_store import (  # noqa: F401 - the same tests, collected here for this engine
    test_a_failed_close_stores_nothing,
    test_idempotency_key_names_the_turn_that_has_it,
    test_many_threads_end_one_turn_once,
    test_messages_are_the_newest_oldest_first,
    test_migrations_lead_to_the_models,
    test_outbox_keeps_records_until_they_are_forgotten,
    test_turn_is_ended_once,
)

pytestmark = pytest.mark.skipif(not PROGRAMS, reason="no PostgreSQL server below /usr/lib/postgresql")


@pytest.fixture(scope="module")
def url():
    with postgres() as address:
        yield address


@pytest.fixture
def engine(url):
    engine = open_engine(url)
    with engine.begin() as connection:
        connection.execute(text("drop schema public cascade"))
        connection.execute(text("create schema public"))
    migrate(engine)
    yield engine
    engine.dispose()


@pytest.fixture
def store(engine):
    return TurnStore(engine)


def test_service_runs_on_postgresql(engine, url, tmp_path):
    """By one setting the whole service keeps its state in PostgreSQL: turns, conversation, replay."""
    service = Service(tmp_path, LASTWORD_SERVICE_DATABASE_URL=url)
    first = service.ask("What is a turn?")
    ack = turn_of(first)[0]
    assert service.stop() == 0
    again = Service(tmp_path, LASTWORD_SERVICE_DATABASE_URL=url)
    assert again.http.get(f"/v1/turns/{ack.turn_id}/events").content == first.content
    assert len(again.http.get(f"/v1/conversations/{ack.conversation_id}").json()["messages"]) == 2
    assert again.stop() == 0
    assert not list(tmp_path.rglob("turns.sqlite"))
