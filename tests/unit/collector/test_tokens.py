"""Tokens let in who bears one, and nobody else."""

import base64

import pytest

from collector.receive.tokens import Tokens


def basic(text):
    return f"Basic {base64.b64encode(text.encode()).decode()}"


@pytest.mark.parametrize("shown", ["Bearer one", "bearer one", "Bearer  two ", basic("pk-anything:one"), basic(":two"), "one"])
def test_bearer_of_a_token_is_let_in(shown):
    """Any of the list, as a bearer token, or as the password that Langfuse's senders have, or alone, as Logfire's do."""
    assert Tokens(" one, two,").admit(shown)


@pytest.mark.parametrize(
    "shown",
    [
        "",
        "on",
        "Bearer",
        "Bearer on",
        "Bearer one two",
        "Bearer one,two",
        "Digest one",
        basic("one:"),
        basic("one"),
        "Basic !",
        "Basic /w==",
    ],
)
def test_others_are_not(shown):
    """Nothing, a part of one, the list itself, a token where the name belongs, and what is no header at all."""
    assert not Tokens("one,two").admit(shown)


@pytest.mark.parametrize("setting", ["", " ", ",,"])
def test_without_tokens_everybody_is_let_in(setting):
    """Where none is set, whatever a sender shows is as good."""
    assert not Tokens(setting)
    assert Tokens(setting).admit("")
    assert Tokens(setting).admit("Bearer x")
