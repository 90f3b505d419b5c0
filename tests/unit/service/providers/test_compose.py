"""What an answer is made of: sentences that can stand alone, and nothing of what flattened texts leave behind."""

import pytest

from service.providers.compose import compose, sentences_of
from service.providers.port import Passage


def passage(text, title="T", url="https://d.example/a"):
    return Passage(url=url, title=title, text=text)


def texts(question, *passages, **fields):
    paragraphs = compose(question, passages, **({"sentences": 6} | fields))
    return [sentence.text for paragraph in paragraphs for sentence in paragraph]


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("Summary : We all need clean water to live.", ["We all need clean water to live."]),
        ("Acute Pneumonitis With acute disease, symptoms occur soon.", ["With acute disease, symptoms occur soon."]),
        ("Vitamin A is good for the eyes of children.", ["Vitamin A is good for the eyes of children."]),
        ("Doctors use scans to look for - Broken bones - Cancers During a scan, you lie still.", []),
        ("There are two kinds: - Acute ones affect the nerves.", []),
        (
            "They last only a short time, mostly. - Another item of a list. A sentence stands behind it.",
            ["They last only a short time, mostly.", "A sentence stands behind it."],
        ),
        ("The horns - the rear portion - are larger than normal.", []),
        ("The horns - the rear portion of them, are larger.", ["The horns - the rear portion of them, are larger."]),
        ("(See the general section. There are three ways it spreads.", ["There are three ways it spreads."]),
        ("For more please visit http://www.example/mm.htm Diagnosis The diagnosis is hard.", []),
        ("Open it on the dashboard: `http://127.0.0.1/turn`.", ["Open it on the dashboard: `http://127.0.0.1/turn`."]),
        ("~~~\nCode that nobody ever closed. It has sentences.", []),
        ("Dr. Smith saw e.g. this patient in the morning.", ["Dr. Smith saw e.g. this patient in the morning."]),
        ("A line that is cut in the middle of", []),
    ],
)
def test_only_whole_sentences_are_taken(text, sentences):
    """Labels and headings are cut off, prose stays, and what is no sentence is left out."""
    assert sentences_of(text) == sentences


def test_sentence_that_leans_on_another_comes_only_with_it():
    """'It is ...' says nothing without what 'it' is: also where the sentence before it could not be taken."""
    good = passage("The outbox keeps records of turns. It keeps records until the collector is back.")
    assert texts("What does the outbox keep?", good) == [
        "The outbox keeps records of turns.",
        "It keeps records until the collector is back.",
    ]
    orphan = passage(
        "The outbox keeps: - records of turns. It keeps records in the outbox. The outbox is a table of the service."
    )
    assert texts("What does the outbox keep?", orphan) == ["The outbox is a table of the service."]


def test_sentence_that_leans_on_a_list_is_left_out_behind_others():
    """The sentence that was chosen before is not the one that it means."""
    text = "The outbox keeps records of turns. There are: - records that wait. They keep their order, mostly."
    assert texts("What does the outbox keep?", passage(text)) == ["The outbox keeps records of turns."]


def test_leaning_sentence_is_better_than_no_answer():
    """Where all that fits leans on something, the best of it is still evidence."""
    assert texts("What does the outbox keep?", passage("It keeps records in the outbox.")) == [
        "It keeps records in the outbox."
    ]


def test_sentences_that_hardly_touch_the_question_are_left_out():
    """Behind the first few, what shares one common word with the question is no support; a wished length takes it in."""
    best = passage("Alpha beta gamma delta is one. Alpha beta gamma delta has two. Alpha beta gamma delta gets three ways.")
    weak = [passage(f"Some alpha number {n} stands here alone.", url=f"https://d.example/{n}") for n in "12345678"]
    question = "alpha beta gamma delta"
    assert not any("alone" in text for text in texts(question, best, *weak))
    assert any("alone" in text for text in texts(question, best, *weak, chars=2000))


def test_sentences_are_not_repeated():
    """Two documents that say the same say it once."""
    same = "A stream is partial when it was cut after some text."
    assert texts("partial stream", passage(same), passage(same, url="https://d.example/b")) == [same]


def test_length_that_is_wished_is_bounded():
    """However much is asked for, the answer stays an answer."""
    names = [f"word{chr(97 + n // 26)}{chr(97 + n % 26)}" for n in range(400)]
    many = passage("\n\n".join(f"The stream of {a} {b} {c} is partial." for a, b, c in zip(*[iter(names)] * 3, strict=False)))
    assert len(texts("partial stream", many, chars=10**9)) == 60
