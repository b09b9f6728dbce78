"""The facts of a model from the Hub, in at most three requests whatever its number of files.

One request gives the commit, the files with their sizes and the parameters by dtype; one gives config.json at
that commit, and the Hub may redirect it once. Only where the files do not hold what config.json implies, and
no reason is known, the headers of the weight files are read too: a range or two of each.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final, TypeVar

from huggingface_hub import HfApi, ModelInfo, constants, hf_hub_url
from huggingface_hub.utils import (  # type: ignore[attr-defined]
    build_hf_headers,
    get_session,
    hf_raise_for_status,
)

from plimsoll import __version__
from plimsoll.hub.config import MAX_CONFIG_BYTES, config_too_large, no_config, parse_config
from plimsoll.hub.errors import HubProblem, problem
from plimsoll.hub.headers import leave_a_question, with_headers
from plimsoll.hub.translate import EXPECTED_ERRORS, host_of, translate
from plimsoll.reconcile.sources import HubFailureKind, check_reference, is_commit
from plimsoll.sizing.facts import ModelFacts, Provenance, RepoFile

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

DEFAULT_ENDPOINT: Final = "https://huggingface.co"
CONFIG_FILE: Final = "config.json"
_CHAT_TEMPLATE_FILES: Final = frozenset({"chat_template.jinja", "chat_template.json"})
LIBRARY: Final = "plimsoll"
_Answer = TypeVar("_Answer")


@dataclass(frozen=True, slots=True, kw_only=True)
class RepoMetadata:
    """What the first request tells: everything but config.json.

    Attributes:
        etags: by path, the hash that names a file's content: SHA-256 where it lies in LFS, git's blob hash else.
    """

    model_id: str
    requested_revision: str
    commit: str
    files: tuple[RepoFile, ...]
    parameters_by_dtype: Mapping[str, int]
    has_chat_template: bool
    etags: Mapping[str, str] = field(default_factory=dict)


def endpoint_from(environ: Mapping[str, str]) -> str:
    """The Hub that HF_ENDPOINT names, else huggingface.co."""
    return (environ.get("HF_ENDPOINT") or DEFAULT_ENDPOINT).rstrip("/")


def prepare_library() -> None:
    """Turn off what huggingface_hub does unasked: telemetry, Xet, tokens from the environment or the home."""
    constants.HF_HUB_DISABLE_TELEMETRY = True
    constants.HF_HUB_DISABLE_XET = True
    constants.HF_HUB_DISABLE_IMPLICIT_TOKEN = True


class HubClient:
    """Asks one Hub; holds no state but its settings, so that any number of tasks may share it."""

    def __init__(
        self,
        endpoint: str = DEFAULT_ENDPOINT,
        *,
        timeout_seconds: float = 10.0,
        deadline_seconds: float = 30.0,
    ) -> None:
        """Set the endpoint and the bounds.

        Args:
            endpoint: the Hub's base URL.
            timeout_seconds: of connecting, and of each wait for bytes.
            deadline_seconds: of a whole request.
        """
        prepare_library()
        self.endpoint = endpoint.rstrip("/")
        self._timeout_seconds = timeout_seconds
        self._deadline_seconds = deadline_seconds
        self._api = HfApi(
            endpoint=self.endpoint, token=False, library_name=LIBRARY, library_version=__version__
        )

    async def fetch(self, model_id: str, revision: str, token: str | None = None) -> ModelFacts:
        """The facts of one revision of a model.

        Raises:
            HubProblem: they could not be had.
        """
        metadata = await self.metadata(model_id, revision, token)
        return await self.complete(metadata, token)

    async def metadata(self, model_id: str, revision: str, token: str | None = None) -> RepoMetadata:
        """Resolve a revision to its commit, with the files and the parameter counts: one request.

        Raises:
            HubProblem: it could not be had.
        """
        failure = check_reference(model_id, revision)
        if failure is not None:
            raise HubProblem(failure)
        return await self._in_thread(self._metadata, model_id, revision, token)

    async def complete(self, metadata: RepoMetadata, token: str | None = None) -> ModelFacts:
        """Read config.json at the commit: one request, two where the Hub redirects; headers where they are needed.

        Raises:
            HubProblem: it could not be had, or is no transformer's.
        """
        where = f"{CONFIG_FILE} of {metadata.model_id} at {metadata.commit[:12]}"
        sizes = {file.path: file.size_bytes for file in metadata.files}
        if CONFIG_FILE not in sizes:
            raise no_config(sizes, f"{metadata.model_id} at {metadata.commit[:12]}")
        if sizes[CONFIG_FILE] > MAX_CONFIG_BYTES:
            raise config_too_large(sizes[CONFIG_FILE], where)
        raw = await self._in_thread(self._config, metadata.model_id, metadata.commit, token)
        facts = ModelFacts(
            model_id=metadata.model_id,
            requested_revision=metadata.requested_revision,
            commit=metadata.commit,
            config=parse_config(raw, where),
            files=metadata.files,
            parameters_by_dtype=metadata.parameters_by_dtype,
            has_chat_template=metadata.has_chat_template,
            provenance=Provenance.PUBLISHED,
            source="Hub",
        )
        if not leave_a_question(facts):
            return facts
        try:
            return await self._in_thread(
                lambda _id, _commit, checked: self._with_headers(facts, checked), "", "", token
            )
        except HubProblem:
            return facts  # the question stays, and the plan says so

    def _with_headers(self, facts: ModelFacts, token: str | None) -> ModelFacts:
        """Read the headers of the weight files, by ranges and within one deadline."""
        deadline = time.monotonic() + self._deadline_seconds

        def read(path: str, start: int, length: int) -> bytes:
            url = hf_hub_url(facts.model_id, path, revision=facts.commit, endpoint=self.endpoint)
            headers = build_hf_headers(
                token=token or False, library_name=LIBRARY, library_version=__version__
            ) | {"Range": f"bytes={start}-{start + length - 1}"}
            with get_session().stream("GET", url, headers=headers, timeout=self._timeout_seconds) as response:
                hf_raise_for_status(response)
                skipped = 0 if response.status_code == HTTPStatus.PARTIAL_CONTENT else start
                return _first(response.iter_bytes(), skipped + length, deadline)[skipped:]

        return with_headers(facts, read)

    async def _in_thread(
        self,
        ask: Callable[[str, str, str | None], _Answer],
        model_id: str,
        revision: str,
        token: str | None,
    ) -> _Answer:
        """Run a blocking request off the event loop, and say what went wrong in our words."""
        token = checked_token(token)
        try:
            async with asyncio.timeout(self._deadline_seconds + self._timeout_seconds):
                return await asyncio.to_thread(ask, model_id, revision, token)
        except HubProblem:
            raise
        except EXPECTED_ERRORS as error:
            raise translate(
                error,
                endpoint=self.endpoint,
                model_id=model_id,
                revision=revision,
                has_token=token is not None,
            ) from None

    def _metadata(self, model_id: str, revision: str, token: str | None) -> RepoMetadata:
        try:
            info = self._api.model_info(
                model_id,
                revision=revision,
                timeout=self._timeout_seconds,
                files_metadata=True,
                token=token or False,
            )
            return _metadata_of(info, model_id, revision)
        except (
            KeyError,
            TypeError,
            AttributeError,
            ValueError,
        ):  # whatever it sent, it was not a model's info
            raise problem(
                HubFailureKind.UNREACHABLE,
                f"{host_of(self.endpoint)} does not answer as a Hub does for {model_id}: check that HF_ENDPOINT names "
                "one, and that no proxy answers for it.",
            ) from None

    def _config(self, model_id: str, commit: str, token: str | None) -> bytes:
        url = hf_hub_url(model_id, CONFIG_FILE, revision=commit, endpoint=self.endpoint)
        headers = build_hf_headers(token=token or False, library_name=LIBRARY, library_version=__version__)
        deadline = time.monotonic() + self._deadline_seconds
        raw = bytearray()
        with get_session().stream("GET", url, headers=headers, timeout=self._timeout_seconds) as response:
            if response.is_error:
                response.read()
            hf_raise_for_status(response)
            for chunk in response.iter_bytes():
                raw += chunk
                if len(raw) > MAX_CONFIG_BYTES:
                    raise config_too_large(len(raw), f"{CONFIG_FILE} of {model_id} at {commit[:12]}")
                if time.monotonic() > deadline:
                    raise TimeoutError
        return bytes(raw)


def _first(chunks: Iterable[bytes], length: int, deadline: float) -> bytes:
    """The first bytes of an answer that may be longer.

    Raises:
        TimeoutError: they were not there in time.
    """
    raw = bytearray()
    for chunk in chunks:
        raw += chunk
        if time.monotonic() > deadline:
            raise TimeoutError
        if len(raw) >= length:
            break
    return bytes(raw[:length])


def checked_token(token: str | None) -> str | None:
    """The token without the line break that `echo` leaves in a Secret; what cannot stand in a header is refused."""
    if token is None:
        return None
    stripped = token.strip()
    if not stripped or not stripped.isascii() or not stripped.isprintable() or " " in stripped:
        raise problem(
            HubFailureKind.TOKEN_REFUSED,
            "the token is empty or holds characters that no token has: store it again, without blanks, quotes or "
            "line breaks.",
        )
    return stripped


def _metadata_of(info: ModelInfo, model_id: str, revision: str) -> RepoMetadata:
    """What sizing needs of the Hub's answer.

    Raises:
        ValueError: it lacks a commit, or holds numbers that count nothing.
    """
    commit = info.sha or ""
    if not is_commit(commit):
        raise ValueError(commit)
    siblings = sorted(info.siblings or (), key=lambda sibling: sibling.rfilename)
    parameters = info.safetensors.parameters if info.safetensors else {}
    return RepoMetadata(
        model_id=model_id,
        requested_revision=revision,
        commit=commit,
        # A link to nothing has no size, and weighs nothing.
        files=tuple(RepoFile(path=s.rfilename, size_bytes=_count(s.size or 0)) for s in siblings),
        parameters_by_dtype={str(dtype): _count(number) for dtype, number in parameters.items()},
        has_chat_template=_has_chat_template(info),
        etags={s.rfilename: etag for s in siblings if (etag := s.lfs.sha256 if s.lfs else s.blob_id)},
    )


def _count(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ValueError(value)
    return value


def _has_chat_template(info: ModelInfo) -> bool:
    if any(sibling.rfilename in _CHAT_TEMPLATE_FILES for sibling in info.siblings or ()):
        return True
    config: dict[str, Any] = info.config or {}
    tokenizer = config.get("tokenizer_config")
    in_tokenizer = isinstance(tokenizer, dict) and bool(tokenizer.get("chat_template"))
    return in_tokenizer or bool(config.get("chat_template_jinja"))
