"""Senders that others wrote, as their users run them, against a real collector."""
