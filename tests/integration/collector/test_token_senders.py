"""The service's own senders and the collector's tokens: records wait until the token is right, and are never lost for it."""

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SpanExportResult

from service.outbox import HttpSender
from service.telemetry import otlp_exporter, read_rejections
from tests.integration.collector.process import Program
from tests.support.otlp import ended, log_request

TOKEN = "a-long-random-token"


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    """A collector that asks for a token."""
    program = Program(tmp_path_factory.mktemp("tokens"), LASTWORD_COLLECTOR_TOKENS=f"other,{TOKEN}")
    program.start()
    yield program
    program.stop()


@pytest.mark.parametrize("token", ["", "wrong", TOKEN])
def test_record_is_kept_until_the_token_is_right(program, token):
    """Without it the answer is neither an acknowledgement nor a refusal for good; with it the turn is there."""
    import gzip

    def encode(_records):
        return gzip.compress(log_request(ended(f"turn {token}")).SerializeToString())

    sender = HttpSender(program.url, encode, read_rejections, token=token)
    answer = sender([])
    sender.close()
    assert (answer.acknowledged, answer.refused) == (token == TOKEN, None)
    stored = program.rows(f"select count(*) from turns where turn_id = 'turn {token}'")
    assert stored == [[int(token == TOKEN)]]


@pytest.mark.parametrize("token", ["", TOKEN])
def test_exporter_sends_the_token(program, token):
    """Spans of the service arrive with it alone."""
    exporter = otlp_exporter(program.url, token)
    span = TracerProvider(shutdown_on_exit=False).get_tracer("t").start_span(f"span {token}")
    span.end()
    result = exporter.export([span])
    exporter.shutdown()
    assert result is (SpanExportResult.SUCCESS if token else SpanExportResult.FAILURE)
    assert program.rows(f"select count(*) from spans where name = 'span {token}'") == [[int(bool(token))]]
