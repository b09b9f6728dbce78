"""From what huggingface_hub raises to the closed list of failures; no text of the library, no token."""

from __future__ import annotations

import email.utils
from datetime import UTC, datetime
from typing import Final
from urllib.parse import urlsplit

import httpx2
from huggingface_hub import errors as hf
from huggingface_hub.utils import parse_ratelimit_headers  # type: ignore[attr-defined]

from plimsoll.hub.errors import HubProblem, problem
from plimsoll.reconcile.sources import HubFailureKind

MAX_RETRY_AFTER_SECONDS: Final = 3600.0
_UNAUTHORIZED, _FORBIDDEN, _TOO_MANY, _SERVER_ERROR = 401, 403, 429, 500
# Everything that the client library can raise and that is the source's doing, not ours.
EXPECTED_ERRORS: Final = (hf.HfHubHTTPError, httpx2.HTTPError, OSError)


def host_of(endpoint: str) -> str:
    """The endpoint as messages show it: without path, user or password."""
    parts = urlsplit(endpoint)
    port = f":{parts.port}" if parts.port else ""
    return f"{parts.scheme}://{parts.hostname or '?'}{port}"


def translate(
    error: Exception, *, endpoint: str, model_id: str, revision: str, has_token: bool
) -> HubProblem:
    """Say which failure an exception of the library is, in our words."""
    if isinstance(error, hf.GatedRepoError):
        return _gated(endpoint, model_id, has_token=has_token)
    if isinstance(error, hf.RevisionNotFoundError):
        return problem(
            HubFailureKind.REVISION_NOT_FOUND,
            f"{model_id} has no revision {revision!r}: write a branch, a tag or a commit of it; unset means main.",
        )
    if isinstance(error, hf.DisabledRepoError):
        return problem(
            HubFailureKind.NOT_FOUND, f"the Hub has disabled the repository {model_id}: name another model."
        )
    if isinstance(error, hf.RepositoryNotFoundError):
        return _not_found(endpoint, model_id, has_token=has_token)
    if isinstance(error, hf.HfHubHTTPError):
        return _by_status(error.response, endpoint=endpoint, model_id=model_id, has_token=has_token)
    return _unreachable(error, endpoint)


def retry_after_seconds(response: httpx2.Response) -> float | None:
    """The wait that a response asks for: Retry-After as seconds or date, else the Hub's RateLimit header."""
    text = response.headers.get("Retry-After")
    seconds: float | None = None
    if text is not None:
        seconds = _seconds(text.strip())
    if seconds is None:
        limits = parse_ratelimit_headers(response.headers)
        seconds = None if limits is None or limits.remaining else float(limits.reset_in_seconds)
    return None if seconds is None else min(max(seconds, 0.0), MAX_RETRY_AFTER_SECONDS)


def _seconds(text: str) -> float | None:
    if text.isascii() and text.isdigit():
        return float(text[:9])
    try:
        when = email.utils.parsedate_to_datetime(text)
    except ValueError:
        return None
    if when.tzinfo is None:  # "-0000": a date without a zone, which HTTP means as UTC
        when = when.replace(tzinfo=UTC)
    return (when - datetime.now(tz=UTC)).total_seconds()


def storage_refusal(response: httpx2.Response, path: str) -> HubProblem:
    """The failure for a host that keeps files for the Hub: its refusals tell nothing of the token, never sent there."""
    host, wait = host_of(str(response.url)), retry_after_seconds(response)
    kind = HubFailureKind.RATE_LIMITED if response.status_code == _TOO_MANY else HubFailureKind.UNREACHABLE
    return problem(
        kind,
        f"{host}, where the Hub keeps {path}, answered {response.status_code}: it is tried again by itself; if it "
        "stays so, check the proxy.",
        wait,
    )


def _gated(endpoint: str, model_id: str, *, has_token: bool) -> HubProblem:
    page = f"{host_of(endpoint)}/{model_id}"
    if has_token:
        message = (
            f"{model_id} is gated and the token's account has no access: accept the licence at {page} with that "
            "account, or use the token of one that has, allowed to read gated repositories."
        )
    else:
        message = (
            f"{model_id} is gated and no token was given: accept the licence at {page}, then give a token "
            "(model.tokenSecretRef in a ModelDeployment, HF_TOKEN for the CLI)."
        )
    return problem(HubFailureKind.GATED, message)


def _not_found(endpoint: str, model_id: str, *, has_token: bool) -> HubProblem:
    hidden = "the token's account may not see it" if has_token else "it is private and no token was given"
    return problem(
        HubFailureKind.NOT_FOUND,
        f"{host_of(endpoint)} has no model {model_id}, or {hidden}: check the spelling of the id, or give a token "
        "that may read it.",
    )


def _by_status(response: httpx2.Response, *, endpoint: str, model_id: str, has_token: bool) -> HubProblem:
    status = response.status_code
    if status == _TOO_MANY:
        wait = retry_after_seconds(response)
        words = "" if wait is None else f" for {wait:.0f} s"
        return problem(
            HubFailureKind.RATE_LIMITED,
            f"{host_of(endpoint)} limits the rate of requests{words}: it is tried again by itself; a token raises the "
            "limit.",
            wait,
        )
    if status == _UNAUTHORIZED and not has_token:
        # What a stranger gets for a repository that is not there, so as not to tell him which ones are.
        return _not_found(endpoint, model_id, has_token=False)
    if status == _UNAUTHORIZED:
        return problem(
            HubFailureKind.TOKEN_REFUSED,
            f"{host_of(endpoint)} does not know the token: it is mistyped, expired or revoked; put a valid one in "
            "its place.",
        )
    if status == _FORBIDDEN:
        return problem(
            HubFailureKind.TOKEN_REFUSED,
            f"{host_of(endpoint)} does not let the token read {model_id}: give it the permission to read this "
            "repository, or use another token.",
        )
    wait = retry_after_seconds(response) if status >= _SERVER_ERROR else None
    advice = (
        "it is tried again by itself" if status >= _SERVER_ERROR else "check that HF_ENDPOINT names a Hub"
    )
    return problem(
        HubFailureKind.UNREACHABLE,
        f"{host_of(endpoint)} answered {status} for {model_id}: {advice}.",
        wait,
    )


def _unreachable(error: Exception, endpoint: str) -> HubProblem:
    host = host_of(endpoint)
    if isinstance(error, hf.OfflineModeIsEnabled):
        message = f"{host} was not asked: HF_HUB_OFFLINE is set; unset it, or use a model of the catalogue."
    elif isinstance(error, httpx2.TimeoutException | TimeoutError):
        message = f"{host} did not answer in time: check the network, the proxy and HF_ENDPOINT."
    else:
        message = (
            f"{host} cannot be reached ({type(error).__name__}): check the network, the proxy, the certificates and "
            "HF_ENDPOINT."
        )
    return problem(HubFailureKind.UNREACHABLE, message)
