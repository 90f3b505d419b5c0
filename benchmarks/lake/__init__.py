"""What a lake of several collectors costs: `python -m benchmarks.lake`."""
