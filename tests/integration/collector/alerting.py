"""A world for tests of alerts: a collector's store, its alerting on a clock of ours, and somebody who is told."""

import http.server
import json
import threading

from prometheus_client import CollectorRegistry

from collector.alerts.alerts import Alerts, Wanted
from tests.integration.collector.turns import Clock, minute_of_turns, store

HISTORY_MINUTES = 26 * 60
CALM = {("chat", "smart"): 0.02, ("docs", "smart"): 0.02, ("docs", "fast"): 0.02}
CUT = CALM | {("docs", "smart"): 0.6, ("docs", "fast"): 0.6}


def history(parts, until, *, per_minute=5):
    """A day of calm turns before a minute."""
    minutes = range(until - HISTORY_MINUTES, until)
    rows = [row for minute in minutes for row in minute_of_turns(minute, rates=CALM, per_minute=per_minute)]
    for first in range(0, len(rows), 5000):
        store(parts, rows[first : first + 5000])


class Inbox:
    """A receiver of webhooks. `refuse` answers so many with 503 first."""

    def __init__(self):
        self.got, self.refuse = [], 0
        inbox = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["content-length"]))
                if inbox.refuse:
                    inbox.refuse -= 1
                    self.send_response(503)
                else:
                    inbox.got.append((dict(self.headers), body))
                    self.send_response(204)
                self.end_headers()

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/hook"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def messages(self):
        return [json.loads(body) for _, body in self.got]

    def close(self):
        self.server.shutdown()
        self.server.server_close()


class World:
    """A collector with a day of calm turns, and its alerts on a clock of ours."""

    def __init__(self, collector, first=0, **wanted):
        self.collector, self.parts = collector, collector.parts
        self.clock = Clock(first)
        self.wanted = Wanted(objective=0.95, dashboard_url="http://127.0.0.1:8501", **wanted)
        self.alerts = None
        self.restart()

    def restart(self):
        """Ends alerting as a crash would, with nothing but the store left, and begins anew."""
        self.close()
        self.alerts = Alerts(self.parts.store, self.parts.writer, CollectorRegistry(), self.wanted, clock=self.clock)

    def live(self, first, last, rates, **shape):
        """Lets minutes pass, each with its turns."""
        for minute in range(first, last + 1):
            store(self.parts, minute_of_turns(minute, rates=rates, **shape))
            self.judge(minute)

    def judge(self, minute):
        self.clock.at(minute)
        assert self.alerts.evaluator.tick()
        for courier in self.alerts.couriers:
            courier.round()

    def rows(self, sql, *params):
        return self.collector.rows(sql, *params)

    def close(self):
        """Lets go of connections and memory."""
        if self.alerts is not None:
            self.alerts.close()
