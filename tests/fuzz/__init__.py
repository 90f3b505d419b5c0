"""Random requests, valid and invalid, against the service's own OpenAPI document: `python -m tests.fuzz`, or `make fuzz` for ten minutes of them."""
