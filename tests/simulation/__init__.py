"""A seeded simulator of the turn service: thousands of turns in virtual time, with faults at every point. `python -m tests.simulation --help`."""
