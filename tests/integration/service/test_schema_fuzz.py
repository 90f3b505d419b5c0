"""The service answers random requests as its OpenAPI document says, and never with a 500. `make fuzz` asks for ten minutes."""

import pytest

from tests.fuzz.__main__ import fuzz

SECONDS = 30


@pytest.mark.timeout(180)
def test_random_requests_find_no_server_error(tmp_path):
    """Valid and invalid ones, to turns that exist and to any path; every status, content type and shape is documented."""
    status, told = fuzz(SECONDS, seed=1, folder=tmp_path, quiet=True)
    assert status == 0, told[-6000:]
    assert "10/10" in told
