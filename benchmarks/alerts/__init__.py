"""How well the alerts find what broke and leave people alone: scenarios, other detectors on the same minutes, and scores."""
