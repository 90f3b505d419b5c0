"""Turns of services that send no turn records, made of their spans."""
