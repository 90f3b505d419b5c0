"""What can go wrong in retrieval.

RetrievalError
├── CorpusError         the corpus cannot be indexed: it is missing, empty, or too large
└── IndexUnavailable    the index file cannot be used now: closed, busy, damaged, or not an index
"""

from __future__ import annotations


class RetrievalError(Exception):
    """The root of the tree. The message can be shown to an operator."""


class CorpusError(RetrievalError):
    """The corpus cannot be indexed. The message says why."""


class IndexUnavailable(RetrievalError):
    """The index file cannot be used now. The message says why."""
