"""From what the command line names to the facts of a model: local files and the catalogue first, then the Hub."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

from plimsoll.cli.errors import RefusedError, UnreachableError, WrongUsageError
from plimsoll.hub.errors import HubProblem
from plimsoll.hub.resolve import facts_for
from plimsoll.reconcile.sources import DEFAULT_REVISION, HubFailure, HubFailureKind, check_reference
from plimsoll.sizing import catalogue

if TYPE_CHECKING:
    from plimsoll.cli.options import HubOptions, SourceOptions
    from plimsoll.sizing.facts import ModelFacts

_PATHS: Final = ("/", "./", "../", "~")  # what only a path begins with
_MAX_TOKEN_BYTES: Final = 4096
_WRONG_USAGE: Final = frozenset({HubFailureKind.INVALID_REFERENCE})
_REFUSED: Final = frozenset(
    {HubFailureKind.NOT_A_TRANSFORMER, HubFailureKind.CONFIG_NOT_JSON, HubFailureKind.CONFIG_TOO_LARGE}
)


class _Hub:
    """The Hub, imported only when it is really asked: the library costs most of a second."""

    def __init__(self, endpoint: str) -> None:
        self._endpoint = endpoint

    async def fetch(self, model_id: str, revision: str, token: str | None = None) -> ModelFacts:
        from plimsoll.hub.client import HubClient

        return await HubClient(self._endpoint).fetch(model_id, revision, token)


def load_facts(model: str | None, source: SourceOptions) -> ModelFacts:
    """The facts of the model that was named.

    Raises:
        WrongUsageError: nothing was named, or something that cannot be a model.
        RefusedError: it is no transformer, or its config cannot be read.
        UnreachableError: it could not be had.
    """
    if model is None and source.config is None:
        raise WrongUsageError(
            "no model is named; give a Hugging Face id such as facebook/opt-125m, a local folder, or --config FILE."
        )
    if source.config is not None and not _is_file(source.config):
        raise WrongUsageError(f"--config {source.config} is no file; name the config.json of a model.")
    name = model or str(source.config)
    hub = source.hub
    found = facts_for(name, source.revision, config_file=source.config, token=token_of(hub), hub=_hub_of(hub))
    try:
        return asyncio.run(found)
    except HubProblem as error:
        raise command_error(error.failure, name) from None
    except RuntimeError as error:  # a home folder (~name) that nobody has
        raise WrongUsageError(f"{name}: {error}; name a folder that exists.") from None


def facts_by_id(model_id: str, revision: str | None, hub: HubOptions) -> ModelFacts:
    """The facts of a hub id as a manifest names it: never a local folder of that name.

    Raises:
        HubProblem: it cannot be a repository, is no transformer, or could not be had.
        WrongUsageError: the Hub or the file with its token is not one.
    """
    wanted = revision or DEFAULT_REVISION
    failure = check_reference(model_id, wanted)
    if failure is not None:
        raise HubProblem(failure)
    known = catalogue.lookup(model_id) if wanted == DEFAULT_REVISION else None
    if known is not None:
        return known
    return asyncio.run(_hub_of(hub).fetch(model_id, wanted, token_of(hub)))


def command_error(failure: HubFailure, model: str) -> RefusedError | UnreachableError | WrongUsageError:
    """The end of a command that a failure of the source stands for."""
    local = model.startswith(_PATHS) or _is_there(model)
    if failure.kind in _WRONG_USAGE or (local and failure.kind is HubFailureKind.NOT_FOUND):
        return WrongUsageError(failure.message)
    if failure.kind in _REFUSED:
        return RefusedError(failure.message)
    return UnreachableError(failure.message)


def _is_there(name: str) -> bool:
    try:
        return Path(name).exists()
    except (OSError, ValueError):  # longer than any name, or with a NUL in it
        return False


def checked_endpoint(endpoint: str) -> str:
    """The Hub's base URL.

    Raises:
        WrongUsageError: it is no http or https URL.
    """
    if not endpoint.startswith(("https://", "http://")) or any(c.isspace() for c in endpoint):
        raise WrongUsageError(
            f"--hub-endpoint (HF_ENDPOINT) is {endpoint!r}; write a URL such as https://huggingface.co."
        )
    return endpoint


def _hub_of(options: HubOptions) -> _Hub:
    return _Hub(checked_endpoint(options.hub_endpoint))


def token_of(options: HubOptions) -> str | None:
    """The token of --token-file, else of HF_TOKEN; it is never shown.

    Raises:
        WrongUsageError: the file holds none.
    """
    path = options.token_file
    if path is None:
        return os.environ.get("HF_TOKEN") or None
    if not _is_file(path):
        raise WrongUsageError(f"--token-file {path} is no file; name one that holds a Hugging Face token.")
    try:
        with path.open("rb") as file:
            token = file.read(_MAX_TOKEN_BYTES).decode("ascii").strip()
    except (OSError, UnicodeDecodeError):
        raise WrongUsageError(f"--token-file {path} cannot be read as ASCII text; check the file.") from None
    if not token or len(token.split()) != 1:
        raise WrongUsageError(f"--token-file {path} holds no token; write one on its only line.")
    return token


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False
