"""Why a container ended, from its exit code and the last lines that it wrote: a reason of a closed list and the next step."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from plimsoll.api.conditions import Reason
from plimsoll.manifests.throttling import SAYS
from plimsoll.reconcile.known_failures import KNOWN_FAILURES
from plimsoll.reconcile.quoting import quote, quote_start

if TYPE_CHECKING:
    from plimsoll.reconcile.known_failures import KnownFailure

EXIT_KILLED: Final = 137  # 128 + SIGKILL

_MAX_LENGTH: Final = 2**31 - 1  # of a context, as status keeps it
_MAX_CAUSE_CHARACTERS: Final = 300

# vLLM prefixes each line with its process, level, time and place; uvicorn and plain tracebacks do not.
_PREFIX: Final = re.compile(
    r"^(?:\x1b\[[0-9;]*m)*(?:\([\w .=-]+\)(?:\x1b\[[0-9;]*m)*\s+)?"
    r"(?:(?P<level>DEBUG|INFO|WARNING|ERROR|CRITICAL) \d\d-\d\d \d\d:\d\d:\d\d (?:\[[^\]]*\]|\S+:\d+\]?) ?)?"
)
_QUIET_LEVELS: Final = frozenset({"DEBUG", "INFO", "WARNING"})
_EXCEPTION: Final = re.compile(r"^(?:[A-Za-z_][\w.]*\.)?[A-Z]\w*(?:Error|Exception): \S")
# Said by the parent process about a child that has said why.
_HEARSAY: Final = re.compile(r"Engine core initialization failed|WorkerProc initialization failed|cancelled")
# What vLLM suggests where the planned length does not fit: since 0.8, and before.
_SUGGESTED: Final = (
    re.compile(r"estimated maximum model length is ([\d,]{1,12})"),
    re.compile(r"maximum number of tokens that can be stored in KV cache \(([\d,]{1,12})\)"),
)
# Written by the hook of manifests/throttling.py, which knows both numbers from the kernel.
_THROTTLED: Final = re.compile(rf"^{re.escape(SAYS)} (\d{{1,18}}) of (\d{{1,18}}) periods$", re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Why a container ended.

    Attributes:
        what: the rest of a sentence that begins with who it was.
        next_step: what mends it, without a full stop.
        suggested_max_model_len: the context length in tokens that the engine says would fit.
    """

    reason: Reason
    what: str
    next_step: str
    suggested_max_model_len: int | None = None


def classify(*, exit_code: int, exit_reason: str | None, log_tail: str, memory_field: str) -> Failure | None:
    """The failure, if it is one of the known ones.

    Args:
        exit_code: of the container.
        exit_reason: what the kubelet calls it (OOMKilled, Error, ...).
        log_tail: the end of the container's log, or its termination message.
        memory_field: what the user edits to give it more memory.
    """
    if exit_reason == "OOMKilled":
        return Failure(
            reason=Reason.HOST_OUT_OF_MEMORY,
            what="was killed for using more memory than its limit (OOMKilled)",
            next_step=f"raise {memory_field}",
        )
    throttled = _THROTTLED.search(log_tail)
    if throttled is not None:  # whatever it ended with: the kubelet ended it
        return Failure(
            reason=Reason.CPU_THROTTLED,
            what=(
                "was ended because it did not come up in time, or answered no more, and its CPU was throttled in "
                f"{throttled[1]} of {throttled[2]} periods"
            ),
            next_step="raise resources.server.limits.cpu",
        )
    if exit_code == 0:
        return None
    lines = _said(log_tail)
    text = "\n".join(lines)
    for known in KNOWN_FAILURES:
        if all(sign.search(text) for sign in known.signs):
            fits = _suggested(text) if known.reason is Reason.KV_CACHE_TOO_SMALL else None
            return Failure(
                reason=known.reason,
                what=f"{known.what} ({quote_start(_words(known, lines), _MAX_CAUSE_CHARACTERS)})",
                next_step=(
                    known.next_step
                    if fits is None
                    else f"set engine.maxModelLen to at most {fits}, which fits"
                ),
                suggested_max_model_len=fits,
            )
    return None


def last_words(text: str | None) -> str:
    """What the end of a log tells of the cause: the last exception that is no hearsay, else simply its end."""
    lines = _said(text or "")
    causes = [line for line in lines if _EXCEPTION.match(line) and not _HEARSAY.search(line)]
    return quote_start(causes[-1]) if causes else quote(text)


def _said(log: str) -> list[str]:
    """The lines without vLLM's prefixes, and without what is no error."""
    found = []
    for line in log.splitlines():
        prefix = _PREFIX.match(line)
        if prefix is not None and prefix["level"] in _QUIET_LEVELS:
            continue
        found.append(line[prefix.end() :] if prefix is not None else line)
    return found


def _words(known: KnownFailure, lines: list[str]) -> str:
    """The line of the log that tells it: from the sign on, without the module of the exception's class."""
    sign = known.signs[0]
    for line in reversed(lines):
        found = sign.search(line)
        if found is not None:
            return line[found.start() :]
    return sign.pattern


def _suggested(text: str) -> int | None:
    for pattern in _SUGGESTED:
        found = pattern.search(text)
        if found is not None:
            length = int(found[1].replace(",", "") or 0)
            return length if 0 < length <= _MAX_LENGTH else None
    return None
