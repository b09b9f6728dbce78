"""Asks an engine over its OpenAI-compatible API: under which name it serves, and how long a request it takes."""

from __future__ import annotations

import http.client
import json
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from plimsoll.cli.promptfoo import Outcome, Verdict
from plimsoll.reconcile.reports import FailedAssertion, TestReport

if TYPE_CHECKING:
    from collections.abc import Callable

# Any token will do, since only the length counts. Ids below it are control tokens in common vocabularies, and the
# smallest vocabulary in use, that of the bytes, has 256.
PROOF_TOKEN: Final = 100
_ANSWER_TOKENS: Final = 1
_PAUSE_SECONDS: Final = 2.0
_SHORT_SECONDS: Final = 10.0
_RETRYABLE: Final = frozenset({408, 425, 429})


class EngineUnreachableError(Exception):
    """No answer, or none that is HTTP."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """An answer of the engine; `body` is None where it is no JSON object."""

    status: int
    body: dict[str, Any] | None

    @property
    def passing(self) -> bool:
        """Whether the same request may be answered otherwise later."""
        return self.status >= 500 or self.status in _RETRYABLE  # noqa: PLR2004 - HTTP


@dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    """Where an engine answers.

    Attributes:
        base_url: with /v1, without a slash at the end.
        api_key: never shown.
    """

    base_url: str
    served_model_name: str
    api_key: str | None = field(default=None, repr=False)

    def ask(self, path: str, body: dict[str, Any] | None = None, *, timeout_seconds: float) -> Answer:
        """GET, or POST a body.

        Raises:
            EngineUnreachableError: there is no answer.
        """
        url = urlsplit(self.base_url)
        kind = http.client.HTTPSConnection if url.scheme == "https" else http.client.HTTPConnection
        connection = kind(url.hostname or "", url.port, timeout=timeout_seconds)
        headers = {"Content-Type": "application/json"}
        if self.api_key:
            headers["Authorization"] = f"Bearer {self.api_key}"
        try:
            text = None if body is None else json.dumps(body)
            connection.request("GET" if body is None else "POST", url.path + path, text, headers)
            response = connection.getresponse()
            return Answer(status=response.status, body=_object(response.read()))
        except (OSError, http.client.HTTPException) as error:
            raise EngineUnreachableError(f"{type(error).__name__}: {error}") from None
        finally:
            connection.close()


def _object(content: bytes) -> dict[str, Any] | None:
    try:
        found = json.loads(content)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def check_name(
    engine: Engine, *, patience_seconds: float, pause: Callable[[float], None] = time.sleep
) -> Outcome | None:
    """See that the engine answers under its name; None: it does.

    A Service that was made a moment ago may take a while to answer, so this one question is asked again.
    """
    deadline = time.monotonic() + patience_seconds
    while True:
        said = "no answer"
        try:
            answer = engine.ask("/models", timeout_seconds=_SHORT_SECONDS)
        except EngineUnreachableError as error:
            said = str(error)
        else:
            if not answer.passing:
                return _judged_models(engine, answer)
            said = f"HTTP {answer.status}"
        if time.monotonic() >= deadline:
            return _error(
                f"the engine at {engine.base_url} cannot be reached ({said}); read the server's log."
            )
        pause(_PAUSE_SECONDS)


def _judged_models(engine: Engine, answer: Answer) -> Outcome | None:
    if answer.status in {401, 403}:
        return _refused(
            f"the engine refused the key of the test (HTTP {answer.status}); check engine.apiKeySecretRef."
        )
    models = (answer.body or {}).get("data")
    names = [m.get("id") for m in models if isinstance(m, dict)] if isinstance(models, list) else []
    if answer.status == http.HTTPStatus.OK and engine.served_model_name in names:
        return None
    if answer.status != http.HTTPStatus.OK or not isinstance(models, list):
        return _refused(
            f"what answers at {engine.base_url} is no engine with an OpenAI-compatible API (HTTP {answer.status} for "
            "/v1/models); check engine.image."
        )
    return _failed("served-model-name", "the engine serves the model under its name")


def prove_context(engine: Engine, max_model_len: int, *, timeout_seconds: float) -> Outcome:
    """Have one request of exactly max_model_len tokens served: a prompt of one less, and one token of answer."""
    prompt_tokens = max_model_len - _ANSWER_TOKENS
    body = {
        "model": engine.served_model_name,
        "prompt": [PROOF_TOKEN] * prompt_tokens,
        "max_tokens": _ANSWER_TOKENS,
        "temperature": 0,
    }
    what = f"a request of {max_model_len} tokens"
    try:
        answer = engine.ask("/completions", body, timeout_seconds=timeout_seconds)
    except EngineUnreachableError as error:
        return _error(f"the engine did not answer {what} ({error}); read the server's log.")
    if answer.passing:
        return _error(f"the engine answered HTTP {answer.status} to {what}; read the server's log.")
    if answer.status != http.HTTPStatus.OK:
        return _failed("context-length", f"{what} is served (HTTP {answer.status})")
    body_read = answer.body or {}
    if body_read.get("model") != engine.served_model_name:
        return _failed("served-model-name", "the engine answers under its name")
    usage = body_read.get("usage")
    counted = usage.get("prompt_tokens") if isinstance(usage, dict) else None
    if counted != prompt_tokens:
        return _failed(
            "context-length", f"a prompt of {prompt_tokens} tokens is read whole (usage: {counted})"
        )
    report = TestReport(passed=1, failed=0, errors=0, total=1, proven_context=max_model_len)
    return Outcome(verdict=Verdict.PASSED, report=report)


def _failed(assertion: str, test: str) -> Outcome:
    failure = FailedAssertion(assertion=assertion, test=test)
    report = TestReport(passed=0, failed=1, errors=0, total=1, failures=(failure,))
    return Outcome(verdict=Verdict.FAILED, report=report)


def _refused(sentence: str) -> Outcome:
    return Outcome(verdict=Verdict.FAILED, report=_erroneous(sentence))


def _error(sentence: str) -> Outcome:
    return Outcome(verdict=Verdict.ERROR, report=_erroneous(sentence))


def _erroneous(sentence: str) -> TestReport:
    return TestReport(passed=0, failed=0, errors=1, total=1, error=sentence)
