"""Alerts: what is unusual is noticed, explained, written down, and told to whoever is to know."""
