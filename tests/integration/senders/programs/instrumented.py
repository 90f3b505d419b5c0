"""A program that knows the API alone, run under `opentelemetry-instrument`: `instrumented.py URL-TO-FETCH`."""

import sys

import requests
from by_hand import send
from opentelemetry import trace
from told import Told

told = Told()
trace.get_tracer_provider().add_span_processor(told)


def fetch():
    """A call that the instrumentation sees by itself."""
    requests.get(sys.argv[1], timeout=10).raise_for_status()


send(trace.get_tracer("hand"), fetch)
trace.get_tracer_provider().shutdown()
told.tell()
