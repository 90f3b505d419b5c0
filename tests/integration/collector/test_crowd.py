"""Eight people at the SQL surface while spans come in: whatever they ask, nothing is written or read that should not be, and nothing acknowledged is lost."""

import concurrent.futures
import itertools
import threading
import time

import httpx2
import pytest

from tests.integration.collector.process import Program
from tests.support.otlp import accepted, ended, log_request, span_ids, spans

PEOPLE = 8
SENDERS = 2
REQUESTS = 10
"""Of each sender. The people ask until the last is answered."""
LIMIT_S = 60.0
ALLOWED = (
    "select count(*) from spans a join spans b using (trace_id)",
    "select name, quantile_cont(duration_ns, 0.99) from spans group by all order by 2 desc limit 10",
    "select t.turn_id, count(*) from turns t join spans s using (trace_id) group by 1 order by 2 desc limit 5",
    "select * from turn_stages a, turn_stages b order by a.ms * b.ms desc limit 3",
)
ENDLESS = "select count(*) from spans a, spans b, spans c, range(1000000) d where a.duration_ns + b.duration_ns + c.duration_ns > d.range"
FORBIDDEN = (
    "insert into store.meta values ('crowd', 'was here')",
    "with x as (delete from store.meta returning key) select * from x",
    "drop view turns",
    "update landing.accepted set turn_id = 'x'",
    "create table crowd (a int)",
    "copy (select * from turns) to '{folder}/crowd.csv'",
    "explain analyze copy (select 1) to '{folder}/collector/segments/crowd.parquet'",
    "export database '{folder}/crowd'",
    "attach '{folder}/crowd.duckdb' as crowd",
    "attach '{folder}/collector/hot.duckdb' as again (read_only)",
    "set memory_limit = '100GB'",
    "set threads = 64",
    "reset lock_configuration",
    "select * from read_text('/etc/passwd')",
    "select * from read_blob('{folder}/collector/hot.duckdb')",
    "select * from '/etc/hosts'",
    "install httpfs",
    "checkpoint",
)


def ask(program, sql, timeout_ms=3000):
    query = {"sql": sql.replace("{folder}", program.environment["LASTWORD_DATA_DIR"]), "timeoutMs": timeout_ms}
    return httpx2.post(f"{program.url}/v1/sql", json=query, trust_env=False, timeout=60)


@pytest.mark.slow
def test_crowd_harms_nothing_and_nobody(tmp_path):
    """Joins, cross joins without end, writes, files, attach and set from eight connections beside senders: refused or answered, and every acknowledged span is there."""
    program = Program(tmp_path, LASTWORD_COLLECTOR_PUBLISH_MS="300")
    program.start()
    until = time.monotonic() + LIMIT_S
    sent = [threading.Event() for _ in range(SENDERS)]
    stored, wrong, statuses = [], [], {"allowed": set(), "endless": set()}
    lock = threading.Lock()

    def send(number):
        for turn in range(REQUESTS):
            request = spans(100)
            name = f"t{number}-{turn}"
            answers = [program.post("traces", request.SerializeToString())]
            answers.append(program.post("logs", log_request(accepted(name), ended(name)).SerializeToString()))
            with lock:
                if answers[0].status_code == 200:
                    stored.extend(span_ids(request))
                wrong.extend(answer.text for answer in answers if answer.status_code != 200)
        sent[number].set()

    def person(number):
        for n in itertools.count(number):
            if all(one.is_set() for one in sent) or time.monotonic() > until:
                return
            answer = ask(program, FORBIDDEN[n % len(FORBIDDEN)])
            if answer.status_code not in {400, 403} or "root:" in answer.text:
                wrong.append((FORBIDDEN[n % len(FORBIDDEN)], answer.status_code, answer.text[:300]))
            statuses["allowed"].add(ask(program, ALLOWED[n % len(ALLOWED)]).status_code)
            statuses["endless"].add(ask(program, ENDLESS, timeout_ms=200).status_code)

    try:
        before = program.rows("select key, value from store.meta order by 1")
        with concurrent.futures.ThreadPoolExecutor(PEOPLE + SENDERS) as pool:
            work = [pool.submit(person, number) for number in range(PEOPLE)] + [
                pool.submit(send, number) for number in range(SENDERS)
            ]
            for one in work:
                one.result(90)
        assert wrong == []
        assert statuses["endless"] == {408}
        assert statuses["allowed"] <= {200, 408}
        assert 200 in statuses["allowed"]
        assert program.rows("select key, value from store.meta order by 1") == before
        assert program.rows("select current_setting('threads')") == [[2]]
        found = program.rows("select span_id from spans")
        assert len(stored) == SENDERS * REQUESTS * 100
        assert sorted(stored) == sorted(row[0] for row in found)
        assert list(tmp_path.rglob("*crowd*")) == []
        program.kill()
        program.start()
        assert program.rows("select count(*), count(distinct span_id) from spans") == [[len(stored), len(stored)]]
    finally:
        program.stop()
