"""Tools that a model may use: a registry with limits, and a few honest built-ins."""
