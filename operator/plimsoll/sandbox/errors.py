"""The one error of the sandbox."""

from __future__ import annotations


class SandboxError(Exception):
    """What keeps the sandbox from starting or going on: one sentence with the way out, then quoted log lines."""
