"""The service's state in one database, through SQLAlchemy: SQLite by default, PostgreSQL by URL."""
