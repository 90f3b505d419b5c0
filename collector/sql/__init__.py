"""The SQL surface: read-only queries over the live store."""
