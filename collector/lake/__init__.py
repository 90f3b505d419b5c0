"""Several collectors, one lake: their sealed segments registered in DuckLake, whose catalog is a PostgreSQL database."""
