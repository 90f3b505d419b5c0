"""The collector: OTLP in, DuckDB, SQL out."""
