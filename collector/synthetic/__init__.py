"""Synthetic turns, as their senders would send them: for `lastword db generate`, for benchmarks and for tests."""
