"""What is left of a query."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.retrieval.query import MAX_TERMS, match_of, terms_of


@pytest.mark.parametrize(
    ("query", "terms"),
    [
        ("Why is my stream partial?", ("stream", "partial")),
        ("What is Alzheimer's disease?", ("alzheimer", "disease")),
        ("It doesn’t work, don't ask: O'Brien", ("work", "ask", "o", "brien")),
        ("first_token_timeout retry-after", ("first", "token", "timeout", "retry", "after")),
        ("retry RETRY Retry", ("retry",)),
        ("Größe naïve", ("größe", "naïve")),
        ("what is it, and who are they?", ()),
        ("  ?!* ", ()),
        ("", ()),
    ],
)
def test_terms_are_the_words_that_tell(query, terms):
    """Stop words, punctuation, contractions and repetitions go; names and numbers stay."""
    assert terms_of(query) == terms


def test_terms_are_bounded():
    """However long the query, only so many words are searched for."""
    assert len(terms_of(" ".join(f"word{n}" for n in range(10_000)))) == MAX_TERMS


@given(st.text())
def test_match_holds_nothing_of_the_syntax(query):
    """Between the quotation marks that we set there are letters and digits only."""
    terms = terms_of(query)
    assert all(term.isalnum() or all(c.isalnum() or not c.isascii() for c in term) for term in terms)
    assert match_of(terms).count('"') == 2 * len(terms)
