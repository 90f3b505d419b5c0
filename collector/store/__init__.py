"""The store: one DuckDB file, written by one thread."""
