"""A real collector in this process, behind Litestar's test client."""

import gzip
import shutil

import pytest
from litestar.testing import TestClient

from collector.app import Parts, create_app
from collector.settings import CollectorSettings


class Collector:
    """Talks OTLP and SQL to a collector."""

    def __init__(self, client, parts):
        self.http = client
        self.parts = parts

    def send(self, signal, request, **headers):
        body = request if isinstance(request, bytes) else request.SerializeToString()
        return self.http.post(f"/v1/{signal}", content=body, headers={"content-type": "application/x-protobuf", **headers})

    def send_gzip(self, signal, request):
        return self.send(signal, gzip.compress(request.SerializeToString()), **{"content-encoding": "gzip"})

    def query(self, sql, params=(), **fields):
        return self.http.post("/v1/sql", json={"sql": sql, "params": list(params), **fields})

    def rows(self, sql, *params):
        response = self.query(sql, params)
        assert response.status_code == 200, response.text
        return response.json()["rows"]


FOR_EVER = {"spans_days": 0, "turns_days": 0, "rollups_days": 0, "content_days": 0}
"""Most tests tell stories of a fixed day, which is long ago."""


def start(folder, **settings):
    parts = Parts(CollectorSettings(data_dir=str(folder), **{"grpc_port": 0, **FOR_EVER, **settings}))
    return TestClient(create_app(parts)), parts


@pytest.fixture(scope="session")
def blank(tmp_path_factory):
    """The folder of a collector that was started once: making its views takes longer than most tests."""
    folder = tmp_path_factory.mktemp("blank")
    client, _ = start(folder)
    with client:
        pass
    return folder


@pytest.fixture
def tmp_path(tmp_path, blank):
    """A folder of a collector's data, with a store that is empty."""
    shutil.copytree(blank, tmp_path, dirs_exist_ok=True)
    return tmp_path


@pytest.fixture
def collector(tmp_path):
    client, parts = start(tmp_path, commit_wait_ms=1)
    with client:
        yield Collector(client, parts)
