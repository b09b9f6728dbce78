"""Somebody else's words in our sentences: on one line, short, and without a token."""

from __future__ import annotations

import re
from typing import Final

MAX_QUOTE_CHARACTERS: Final = 400

# A Hub token has 34 letters after its prefix; vLLM's own names (hf_overrides) are shorter than this.
_SECRETS: Final = (
    (re.compile(r"(?i)\bbearer\s+[A-Za-z0-9._~+/=-]+"), "Bearer ***"),
    (re.compile(r"\bhf_[A-Za-z0-9_]{16,}"), "hf_***"),
    (re.compile(r"(?<=://)[^\s/@:]+:[^\s/@]+(?=@)"), "***"),
)


def scrub(text: str) -> str:
    """The text without what looks like a Hub token, a bearer token, or a password in a URL."""
    for pattern, instead in _SECRETS:
        text = pattern.sub(instead, text)
    return text


def quote(text: str | None, characters: int = MAX_QUOTE_CHARACTERS) -> str:
    """Somebody else's words on one line, cut at the front of what is too long: the end tells the cause."""
    line = " ".join(scrub(text or "").split())
    return line if len(line) <= characters else "..." + line[-characters:]


def quote_start(text: str, characters: int = MAX_QUOTE_CHARACTERS) -> str:
    """Somebody else's words on one line, cut at the end of what is too long: the beginning tells the cause."""
    line = " ".join(scrub(text).split())
    return line if len(line) <= characters else line[:characters] + "..."


def sentence(text: str) -> str:
    """The text, ending as a sentence does."""
    return text if text.endswith((".", "!", "?")) else text + "."


def counted(number: int, noun: str) -> str:
    """A number with its noun ("1 GPU", "2 GPUs")."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
