"""Programs that run in an environment of their own: they import their SDK and `told`, and nothing of the product."""
