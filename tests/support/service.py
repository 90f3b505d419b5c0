"""The turn service as a process of its own, for tests of its HTTP surface."""

import os
import signal
import subprocess
import sys

import httpx2

from tests.support.product import ROOT, answers, free_port, wait_for

QUESTION = "why is my stream partial?"


class Service:
    """One service process, without a collector behind it."""

    def __init__(self, folder, **environment):
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        self.port = port
        clean = {name: value for name, value in os.environ.items() if not name.startswith("LASTWORD_")}
        settings = {
            "LASTWORD_DATA_DIR": str(folder),
            "LASTWORD_SERVICE_PORT": str(port),
            "LASTWORD_SERVICE_COLLECTOR_URL": "http://127.0.0.1:1",
            "LASTWORD_SERVICE_PACE_MS": "2",
            "LASTWORD_LOG_LEVEL": "ERROR",
        }
        self.process = subprocess.Popen([sys.executable, "-m", "service"], cwd=ROOT, env={**clean, **settings, **environment})
        wait_for(lambda: answers(f"{self.url}/health/ready"), 60, "the service is ready")
        self.http = httpx2.Client(base_url=self.url, trust_env=False, timeout=30)

    def ask(self, message=QUESTION, headers=None, **fields):
        return self.http.post("/v1/turns", json={"message": message, **fields}, headers=headers or {})

    def stop(self):
        self.http.close()
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(30)
