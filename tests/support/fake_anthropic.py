"""The checker's fake provider, as tests use it: a script with a step that does not exist fails the test that sent it."""

from __future__ import annotations

import argparse
import threading

from lastword.check.provider import FakeProvider
from lastword.check.steps import SOURCE, WEB, WORDS

__all__ = ["SOURCE", "WEB", "WORDS", "FakeAnthropic"]


class FakeAnthropic(FakeProvider):
    """The server, as a context manager that watches over the scripts it was sent."""

    @property
    def ended(self):
        """The calls that have ended, by our word or by the client's leaving."""
        return [call for call in self.calls if call.ended_at is not None]

    def __exit__(self, kind, error, trace):
        super().__exit__(kind, error, trace)
        assert not self.unknown_steps, self.unknown_steps


def main():
    """Runs the server until Ctrl-C."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=9100)
    with FakeAnthropic(parser.parse_args().port) as server:
        print(
            f"ANTHROPIC_API_KEY=fake LASTWORD_SERVICE_PROVIDER=anthropic LASTWORD_SERVICE_ANTHROPIC_BASE_URL={server.url} make up"
        )
        threading.Event().wait()


if __name__ == "__main__":
    main()
