"""Retrieval: a full-text index over a folder of documents."""
