"""Receiving OTLP: bodies, decoding, and the answers that senders understand."""
