"""How fast the service streams, beside other ways to do it: `python -m benchmarks.service`, or `make bench-service`."""
