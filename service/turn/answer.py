"""The cleaner: one function that makes the text a person reads, incrementally in the stream and finally for `answer`.

Removes citation markers such as `[1]` or `【4†source】`, folds repeated blanks, and drops white space at both ends; code is left as it is. The
stream is cleaned as it comes: what cannot be judged yet (an open bracket, trailing blanks, half a surrogate pair) is held back.
Invariant: however a text is cut into pieces, the cleaned pieces join to `clean(text)`.
"""

from __future__ import annotations

import re

_WORD = r"[^`\[【 \t\r\n\f\v\u00a0]+"
_TOKEN = re.compile(
    rf"`+|[ \t\r\n\f\v\u00a0]+|\[|【|{_WORD}(?: {_WORD})*"
)  # words with one blank between them are as they should be: one token
_MARKER = re.compile(r"\[\^?\d{1,3}(?:\s*[,;\u2013-]\s*\d{1,3})*\]|【[^】\n]{0,80}】")
_MARKER_PREFIX = re.compile(r"\[\^?(?:\d{1,3}(?:\s*[,;\u2013-]\s*\d{1,3})*\s*[,;\u2013-]?\s*)?|【[^】\n]{0,80}")
_MAX_HELD = 128
"""Longest text held back while a marker may still be open, in characters. No marker is longer."""
_MAX_NEWLINES = 2
_LONG_SPACE = 256
"""Longest piece of waiting white space that is extended, in characters: behind it a new piece begins, so that a model that writes nothing else costs what it writes."""


class Cleaner:
    """Cleans one answer. Feed it the provider's text; show what it returns."""

    def __init__(self) -> None:
        self._held = ""  # text not judged yet
        self._ticks = 0  # backticks not judged yet, before it: their run may grow
        self._spaces: list[str] = []  # white space not shown yet: it depends on what follows
        self._space = ""  # the end of it; never empty where there is any
        self._started = False
        self._fence = ""  # the run of backticks that opened the code we are in

    def feed(self, text: str) -> str:
        """The cleaned text that can be shown now; often a little less than was fed, sometimes empty."""
        if not self._held and not self._ticks and _is_plain(text):
            return self._plain(text)
        return self._run(self._held + text, final=False)

    def finish(self) -> str:
        """What was held back, judged as the end of the text."""
        return self._run(self._held, final=True)

    def _plain(self, text: str) -> str:
        """The same as `_run` for a plain piece, in a fraction of its time."""
        words = text.strip(" ")
        if not words:
            self._wait(text)
            return ""
        space = self._space + " " if text[0] == " " else self._space
        if self._spaces:
            space = self._take_spaces() + space
        self._space = " " if text[-1] == " " else ""
        if not space or not self._started:
            self._started = True
            return words
        return self._between(space) + words

    def _run(self, text: str, *, final: bool) -> str:
        self._held = ""
        if not final and text and "\ud800" <= text[-1] <= "\udbff":
            text, self._held = text[:-1], text[-1]  # the other half of the pair comes with the next piece
        out: list[str] = []
        at = self._grow_ticks(text, out, final=final) if self._ticks else 0
        while at < len(text):
            match = _TOKEN.match(text, at)
            if match is None:  # unreachable: the classes of _TOKEN cover every character
                raise AssertionError(f"no token at {at}")
            token = match[0]
            last = match.end() == len(text)
            if token[0] in "[【" and not self._fence:
                taken = self._take_bracket(text, at, final=final, out=out)
                if taken == 0:
                    self._held = text[at:] + self._held
                    break
                at += taken
                continue
            if token[0] == "`":
                self._ticks = len(token)
                if last and not final:
                    break
                self._take_ticks(out)
            elif token[0].isspace():
                self._take_space(token)
            else:
                self._show(token, out)
            at = match.end()
        return "".join(out)

    def _take_bracket(self, text: str, at: int, *, final: bool, out: list[str]) -> int:
        """Judges a bracket; the number of characters taken, 0 where it cannot be judged yet."""
        marker = _MARKER.match(text, at)
        if marker is not None:
            end = marker.end()
            if end == len(text) and not final:
                return 0  # a following "(" would make it a link, not a marker
            if text[end : end + 1] == "(":
                self._show(marker[0], out)
            elif self._space and not self._newlines():
                space = self._take_spaces() + self._space
                self._space = space[0] if text[end : end + 1].isalnum() else ""
            return end - at
        if not final and len(text) - at < _MAX_HELD and _MARKER_PREFIX.fullmatch(text, at):
            return 0
        self._show(text[at], out)
        return 1

    def _grow_ticks(self, text: str, out: list[str], *, final: bool) -> int:
        """Extends the run of backticks that waits, and shows it where it has ended; the number of characters taken."""
        taken = len(text) - len(text.lstrip("`"))
        self._ticks += taken
        if final or taken < len(text):
            self._take_ticks(out)
        return taken

    def _take_ticks(self, out: list[str]) -> None:
        run, self._ticks = "`" * self._ticks, 0
        self._show(run, out)
        if not self._fence:
            self._fence = run
        elif run == self._fence or (len(self._fence) >= 3 and len(run) >= len(self._fence)):
            self._fence = ""

    def _take_space(self, token: str) -> None:
        self._wait(token)
        if 0 < len(self._fence) < 3 and "\n" in token and self._newlines() >= _MAX_NEWLINES:
            self._fence = ""  # a paragraph's end closes inline code that was never closed

    def _wait(self, space: str) -> None:
        """Lets white space wait for what follows."""
        if len(self._space) > _LONG_SPACE and space:
            self._spaces.append(self._space)
            self._space = space
        else:
            self._space += space

    def _newlines(self) -> int:
        """Line breaks in the white space that waits."""
        return self._space.count("\n") + sum(piece.count("\n") for piece in self._spaces)

    def _take_spaces(self) -> str:
        """The white space that waits before the end of it."""
        spaces, self._spaces = "".join(self._spaces), []
        return spaces

    def _show(self, token: str, out: list[str]) -> None:
        """Shows a token, and before it the white space that was waiting: folded in prose, unchanged in code."""
        space, self._space = self._take_spaces() + self._space, ""
        if space and self._started:
            out.append(self._between(space))
        self._started = True
        out.append(token)

    def _between(self, space: str) -> str:
        if space == " " or self._fence:
            return space
        newlines = space.count("\n")
        return "\n" * min(newlines, _MAX_NEWLINES) + _indent_of(space) if newlines else " "


def _is_plain(text: str) -> bool:
    """Words with one blank between them, and perhaps one at either end: most pieces of most answers."""
    return text.isprintable() and "  " not in text and "`" not in text and "[" not in text and "【" not in text


def _indent_of(space: str) -> str:
    """The blanks behind the last line break: they nest lists, so they stay."""
    return space.rpartition("\n")[2].replace("\u00a0", " ")


def clean(text: str) -> str:
    """The canonical form of a whole text."""
    cleaner = Cleaner()
    return cleaner.feed(text) + cleaner.finish()
