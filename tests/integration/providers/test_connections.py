"""Calls are cut in every phase of their connection: while it is made, in the TLS handshake, and over TLS."""

import contextlib
import shutil
import socket
import ssl
import subprocess
import threading
import time
from pathlib import Path

import pytest

from service.providers.anthropic_provider import AnthropicProvider
from service.providers.connections import Line
from service.providers.port import ModelRequest, TextDelta, UserText
from service.turn.failures import AttemptFailed, FailureKind
from tests.support.fake_anthropic import WORDS, FakeAnthropic

LIMIT_S = 5.0
TIMEOUT_S = 8.0


def request(script="text, end"):
    return ModelRequest(
        model="claude-test",
        system="",
        transcript=(UserText(f"why? [[script:{script}]]"),),
        connect_timeout_s=TIMEOUT_S,
        read_timeout_s=TIMEOUT_S,
    )


def seconds_to_abort(url, reached, script="text, end"):
    """How long the reader takes to notice an abort, once `reached` says that it waits where it should."""
    provider = AnthropicProvider(api_key="k", base_url=url)
    call = provider.start(request(script))
    failures, ended_at = [], []

    def read():
        try:
            list(call)
        except AttemptFailed as failure:
            failures.append(failure)
        ended_at.append(time.monotonic())

    reader = threading.Thread(target=read)
    reader.start()
    end = time.monotonic() + 5
    while not reached(call):
        assert time.monotonic() < end, "the call never got there"
        time.sleep(0.005)
    aborted_at = time.monotonic()
    call.abort()
    reader.join(TIMEOUT_S + 2)
    provider.close()
    assert [failure.kind for failure in failures] == [FailureKind.NETWORK]
    return ended_at[0] - aborted_at


def has_socket(call):
    return call._line._socket is not None


@pytest.fixture
def deaf():
    """A port whose queue is full: who connects waits."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=0)
    waiting = []
    for _ in range(4):
        filler = socket.socket()
        filler.setblocking(False)
        filler.connect_ex(listener.getsockname())
        waiting.append(filler)
    yield listener.getsockname()[1]
    for one in (*waiting, listener):
        one.close()


@pytest.fixture
def mute():
    """A port that takes connections and says nothing, with the connections that it took."""
    taken = []
    listener = socket.create_server(("127.0.0.1", 0))

    def take():
        while True:
            try:
                taken.append(listener.accept()[0])
            except OSError:
                return

    thread = threading.Thread(target=take)
    thread.start()
    yield listener.getsockname()[1], taken
    listener.shutdown(socket.SHUT_RDWR)
    thread.join(5)
    for one in (*taken, listener):
        one.close()


@pytest.fixture
def secure(tmp_path, monkeypatch):
    """The fake provider over TLS, trusted by the system's usual variable."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("the program openssl makes the certificate of this test")
    key, certificate = tmp_path / "key.pem", tmp_path / "cert.pem"
    words = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=localhost -addext subjectAltName=IP:127.0.0.1"
    subprocess.run([openssl, *words.split(), "-keyout", key, "-out", certificate], check=True, capture_output=True, timeout=30)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    with FakeAnthropic(tls=context) as fake:
        yield fake


def test_abort_wakes_a_call_that_connects(deaf):
    """The connection is not there yet: the call ends all the same, not at its time-out."""
    assert seconds_to_abort(f"http://127.0.0.1:{deaf}", has_socket) < LIMIT_S


def test_abort_wakes_a_call_in_its_handshake(mute):
    """TLS takes the plain socket away; the call's own hold on the connection stays."""
    port, taken = mute
    assert seconds_to_abort(f"https://127.0.0.1:{port}", lambda _: taken) < LIMIT_S


def test_abort_wakes_a_call_that_waits_for_headers(mute):
    """The request is out and nothing has come back."""
    port, taken = mute
    assert seconds_to_abort(f"http://127.0.0.1:{port}", lambda _: taken) < LIMIT_S


def test_abort_wakes_a_reader_over_tls(secure):
    """Under an encrypted stream lies the same socket."""
    assert seconds_to_abort(secure.url, lambda _: secure.calls, "text, hang") < LIMIT_S


def test_answer_arrives_over_tls(secure):
    """The certificate is checked, and found good."""
    provider = AnthropicProvider(api_key="k", base_url=secure.url)
    assert "".join(event.text for event in provider.start(request()) if isinstance(event, TextDelta)) == "".join(WORDS)
    provider.close()


def test_unknown_certificate_is_refused(secure, monkeypatch):
    """Nobody is talked to whose certificate nobody vouches for."""
    monkeypatch.delenv("SSL_CERT_FILE")
    provider = AnthropicProvider(api_key="k", base_url=secure.url)
    with pytest.raises(AttemptFailed) as caught:
        list(provider.start(request()))
    assert caught.value.kind is FailureKind.NETWORK
    assert secure.calls == []
    provider.close()


def test_connection_that_is_not_made_in_time_is_a_network_failure(deaf):
    """The time-out for connecting is the request's."""
    provider = AnthropicProvider(api_key="k", base_url=f"http://127.0.0.1:{deaf}")
    hurried = ModelRequest(model="m", system="", transcript=(UserText("x"),), connect_timeout_s=0.1, read_timeout_s=TIMEOUT_S)
    start = time.monotonic()
    with pytest.raises(AttemptFailed) as caught:
        list(provider.start(hurried))
    assert (caught.value.kind, caught.value.error_type) == (FailureKind.NETWORK, "APITimeoutError")
    assert 0.1 <= time.monotonic() - start < LIMIT_S
    provider.close()


def test_name_that_does_not_exist_is_a_network_failure(monkeypatch):
    """A name that cannot be resolved is one more failure that the policy knows."""

    def unknown(*_, **__):
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    provider = AnthropicProvider(api_key="k", base_url="http://provider.example")
    with pytest.raises(AttemptFailed) as caught:
        list(provider.start(request()))
    assert caught.value.kind is FailureKind.NETWORK
    provider.close()


def test_second_address_is_tried_where_the_first_refuses(monkeypatch):
    """A host may have several addresses, and not all of them answer."""
    with FakeAnthropic() as fake:
        port = int(fake.url.rpartition(":")[2])
        with socket.create_server(("127.0.0.1", 0)) as closed:
            refusing = closed.getsockname()
        addresses = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", to) for to in (refusing, ("127.0.0.1", port))]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: addresses)
        provider = AnthropicProvider(api_key="k", base_url=f"http://provider.example:{port}")
        assert any(isinstance(event, TextDelta) for event in provider.start(request()))
        provider.close()


@pytest.mark.parametrize("script", ["text, end", "text, cut", "text, reset", "529"])
def test_calls_leave_no_descriptor_behind(script):
    """However a call ends, its sockets are closed with it."""
    kept = []  # or the collector would close what the call forgot

    def call():
        kept.append(provider.start(request(script)))
        with contextlib.suppress(AttemptFailed):
            list(kept[-1])

    with FakeAnthropic() as fake:
        provider = AnthropicProvider(api_key="k", base_url=fake.url)
        call()
        settle(fake, 1)
        before = descriptors()
        for _ in range(20):
            call()
        settle(fake, 21)
        end = time.monotonic() + 5
        while descriptors() > before and time.monotonic() < end:
            time.sleep(0.01)
        assert descriptors() <= before
        provider.close()


def descriptors():
    return len(list(Path("/proc/self/fd").iterdir()))


def settle(fake, calls):
    """Waits until the server has closed its side, too."""
    end = time.monotonic() + 5
    while len(fake.ended) < calls and time.monotonic() < end:
        time.sleep(0.01)
    assert len(fake.ended) >= calls


def test_calls_of_many_threads_keep_their_own_lines():
    """An abort ends its own call and no other, though all share one client."""
    with FakeAnthropic() as fake:
        provider = AnthropicProvider(api_key="k", base_url=fake.url)
        hanging = [provider.start(request("text, hang")) for _ in range(8)]
        outcomes = {}

        def read(number):
            try:
                list(hanging[number])
            except AttemptFailed as failure:
                outcomes[number] = failure.kind

        readers = [threading.Thread(target=read, args=(number,)) for number in range(8)]
        for reader in readers:
            reader.start()
        end = time.monotonic() + 5
        while len(fake.calls) < 8 and time.monotonic() < end:
            time.sleep(0.01)
        hanging[3].abort()
        readers[3].join(LIMIT_S)
        assert outcomes == {3: FailureKind.NETWORK}
        for call in hanging:
            call.abort()
        for reader in readers:
            reader.join(5)
        assert len(outcomes) == 8
        provider.close()


def test_line_that_was_cut_takes_no_socket():
    """Whoever cuts early cuts for good, and cutting twice is no error."""
    line = Line()
    line.cut()
    line.cut()
    with socket.socket() as one, pytest.raises(ConnectionAbortedError):
        line.attach(one)
