"""Looking after the store: what `lastword db` does, and what a running collector does for it when asked."""
