"""The checker's three sides around a reference server or a broken one."""

import asyncio
import os
import sys
import threading
from contextlib import ExitStack, contextmanager
from pathlib import Path

from lastword.check.bench import Bench, Options
from lastword.check.case import Need, all_cases
from lastword.check.exchange import Budget, Exchange, OutOfTime, Target, Unreachable
from lastword.check.preflight import look
from lastword.check.process import Process
from lastword.check.provider import FakeProvider
from lastword.check.runner import run_case
from lastword.check.sink import Sink
from tests.conformance.reference import Settings
from tests.support.product import ROOT, free_port

CASES = {case.id: case for case in all_cases()}
IN_PROCESS = {"C59", "F62"}
OPTIONS = Options(
    api_key="one",
    other_key="two",
    limited_key="few",
    random_turns=60,
    races=15,
    aborts=40,
    slow_turns=20,
    silence_s=3,
    patience_s=3,
)
RETENTION_S = {"R50": 0.5}
DEADLINE_S = {"P31": 2.0, "P32": 2.0, "P40": 2.5, "F62": 60.0, "F63": 30.0, "F64": 30.0}


@contextmanager
def served(server_class, provider, sink, case):
    """The server's address, in a thread of this process."""
    settings = Settings(
        provider=provider.url, otlp=sink.url, retention_s=RETENTION_S.get(case, 60.0), deadline_s=DEADLINE_S.get(case, 5.0)
    )
    loop = asyncio.new_event_loop()
    started, port = threading.Event(), []

    async def main():
        server = server_class(settings)
        port.append(await server.start())
        stopping = asyncio.Event()
        port.append(lambda: loop.call_soon_threadsafe(stopping.set))
        started.set()
        await stopping.wait()
        await server.close()
        for _ in range(3):  # a turn that is cancelled writes its terminal and sends its telemetry
            tasks = asyncio.all_tasks() - {asyncio.current_task()}
            for task in tasks:
                task.cancel()
            if tasks:
                await asyncio.wait(tasks, timeout=2)
        await loop.shutdown_asyncgens()

    thread = threading.Thread(target=loop.run_until_complete, args=(main(),), daemon=True)
    thread.start()
    assert started.wait(10)
    try:
        yield f"http://127.0.0.1:{port[0]}"
    finally:
        port[1]()
        thread.join(10)
        loop.close()


@contextmanager
def process(broken, provider, sink, work):
    """The server as a process of its own, for cases that stop it."""
    port = free_port()
    target = Target.of(f"http://127.0.0.1:{port}")
    environment = {
        "ANTHROPIC_BASE_URL": provider.url,
        "OTEL_EXPORTER_OTLP_ENDPOINT": sink.url,
        "PORT": str(port),
        "WORK": str(work),
        "PYTHONPATH": str(ROOT),
    }

    def ready():
        try:
            return Exchange(target, "GET", "/health/ready", [], b"", Budget(2)).read_head().status == 200
        except (Unreachable, OutOfTime):
            return False

    command = f"{sys.executable} -m tests.conformance.reference {broken}"
    running = Process(command, environment, Path(work) / "server.log", ready)
    running.start()
    try:
        yield target.url, running
    finally:
        running.close()
        assert not (Path(work) / "server.log").read_bytes().count(b"SyntaxError"), os.fspath(work)


def run(case_id, server_class, broken="", work=None, **options):
    """One case against one server; its result."""
    import msgspec

    case = CASES[case_id]
    chosen = msgspec.structs.replace(OPTIONS, **options)
    with ExitStack() as stack:
        provider, sink = stack.enter_context(FakeProvider()), stack.enter_context(Sink())
        child = None
        if Need.PROCESS in case.needs or case_id in IN_PROCESS:
            url, child = stack.enter_context(process(broken, provider, sink, work))
        else:
            url = stack.enter_context(served(server_class, provider, sink, case_id))
        bench = Bench(Target.of(url), chosen, provider=provider, sink=sink, process=child)
        bench.facts = look(bench) if not broken else _facts(bench)
        result = run_case(bench, case, 90)
        assert provider.unknown_steps == []
        return result


def _facts(bench):
    """What a broken server says of itself: not asked the way a user's server is, as it may fail there already."""
    from lastword.check.preflight import facts_of

    bench.begin(10)
    try:
        return facts_of(bench)
    finally:
        bench.end()
