"""Colours, by meaning, for a light and a dark ground.

Owns every colour of charts and badges. The hues keep apart for the common forms of colour blindness (blue against orange carries all that matters; red never
stands against green alone), and each has a word, an outline or a symbol beside it.
"""

from __future__ import annotations

from msgspec import Struct


class Palette(Struct, frozen=True, kw_only=True):
    """Colours of one ground."""

    text: str
    muted: str
    faint: str
    grid: str
    ground: str
    neutral: str
    accent: str
    broken: str
    error: str
    good: str
    after_commit: str
    phases: dict[str, str]
    series: tuple[str, ...]
    """For kinds that have no colour of their own, the last for all the rest. Each stands beside its name."""

    heat: tuple[str, ...]
    """From few to many."""
    heat_against: tuple[str, ...]
    """From half of the usual over the usual and twice to four times."""


LIGHT = Palette(
    text="#12161e",
    muted="#5b6270",
    faint="#9aa1ad",
    grid="#e8eaee",
    ground="#ffffff",
    neutral="#8b93a1",
    accent="#1f5fbf",
    broken="#c25100",
    error="#b3261e",
    good="#00795c",
    after_commit="#f6f1e6",
    phases={
        "turn": "#9aa1ad",
        "prepare": "#7ba3dc",
        "retrieval": "#4db1e6",
        "tool": "#009a74",
        "model": "#1b4f9c",
        "stream": "#6485ea",
        "finish": "#b0a3c4",
        "viewer": "#d3d7de",
    },
    series=("#c25100", "#1b4f9c", "#e0a100", "#4db1e6", "#8a4a9e", "#9aa1ad"),
    heat=("#eaf1fb", "#7ba3dc", "#1b4f9c", "#0b2550"),
    heat_against=("#5f93d6", "#eceef1", "#e59a5b", "#9c2f0c"),
)

DARK = Palette(
    text="#e8eaf0",
    muted="#a6adbb",
    faint="#717987",
    grid="#2b303b",
    ground="#12151c",
    neutral="#8b93a1",
    accent="#6fa8ff",
    broken="#ff9040",
    error="#ff7b72",
    good="#3ecfa5",
    after_commit="#221f18",
    phases={
        "turn": "#77808f",
        "prepare": "#5f8fd0",
        "retrieval": "#58bdf0",
        "tool": "#25b98f",
        "model": "#3f7fe0",
        "stream": "#8ea7ff",
        "finish": "#9a8cb4",
        "viewer": "#4a5160",
    },
    series=("#ff9040", "#5f9bff", "#f0c541", "#7fd0f7", "#c48fd8", "#77808f"),
    heat=("#182234", "#2f62ad", "#6fa8ff", "#dbe9ff"),
    heat_against=("#4b86d6", "#2a2f3a", "#c46f2d", "#ffb27a"),
)


def palette(theme: str | None) -> Palette:
    """The colours for Streamlit's theme type."""
    return DARK if theme == "dark" else LIGHT
