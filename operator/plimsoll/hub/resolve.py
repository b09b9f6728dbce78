"""Which source answers for a model that the CLI was given; the operator asks the Hub only."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Final, Protocol

from plimsoll.hub.config import MAX_CONFIG_BYTES, config_too_large, no_config, parse_config
from plimsoll.hub.errors import HubProblem, problem
from plimsoll.hub.headers import with_headers_in
from plimsoll.reconcile.sources import DEFAULT_REVISION, HubFailureKind, check_reference
from plimsoll.sizing import catalogue
from plimsoll.sizing.facts import ModelFacts, Provenance, RepoFile

LOCAL_COMMIT: Final = "local"
_CONFIG_FILE: Final = "config.json"
_CHAT_TEMPLATE_FILES: Final = ("chat_template.jinja", "chat_template.json")


class FactsSource(Protocol):
    """What answers from the network: `HubClient` or `HubCache`."""

    async def fetch(self, model_id: str, revision: str, token: str | None = None) -> ModelFacts:
        """The facts of one revision."""


async def facts_for(
    model: str,
    revision: str | None = None,
    *,
    config_file: Path | None = None,
    token: str | None = None,
    hub: FactsSource | None = None,
) -> ModelFacts:
    """The facts of a model: a local folder, `--config FILE`, the catalogue, then the Hub.

    The catalogue follows no commit, so it answers only where no revision, or main, was asked for.

    Args:
        model: a hub id or the path of a folder with config.json.
        revision: branch, tag or commit; None for main.
        config_file: a config.json that stands for the model's.
        token: sent to the Hub only.
        hub: None to stay without a network.

    Raises:
        HubProblem: no source has the facts.
    """
    if config_file is not None:
        return facts_from_config(model, config_file)
    if _is_folder(model):
        return facts_from_folder(model)
    wanted = revision or DEFAULT_REVISION
    original = catalogue.original_of(model) if "/" not in model else None
    if original is not None:
        raise problem(
            HubFailureKind.INVALID_REFERENCE,
            f"{model} is Ollama's name of GGUF files, which vLLM no longer loads: name the original, {original}, or one "
            "of its quantised builds that `plimsoll catalogue` lists.",
        )
    failure = check_reference(model, wanted)
    if failure is not None:
        raise HubProblem(failure)
    if wanted == DEFAULT_REVISION:
        known = catalogue.lookup(model)
        if known is not None:
            return known
    if hub is None:
        raise problem(
            HubFailureKind.NOT_FOUND,
            f"{model} is not in the bundled catalogue and the Hub is not to be asked: name a model that "
            "`plimsoll catalogue` lists, a local folder, or a config.json with --config.",
        )
    return await hub.fetch(model, wanted, token)


def facts_from_config(model: str, config_file: Path) -> ModelFacts:
    """The facts in one config.json: no files, so weights come from its shapes alone.

    Raises:
        HubProblem: the file cannot be read or is no transformer's config.
    """
    return ModelFacts(
        model_id=model,
        requested_revision=LOCAL_COMMIT,
        commit=LOCAL_COMMIT,
        config=parse_config(_read(config_file), str(config_file)),
        files=(),
        provenance=Provenance.PUBLISHED,
        source=f"--config {config_file}",
    )


def facts_from_folder(path: str) -> ModelFacts:
    """The facts of a model that lies in a local folder, its files with the sizes they have.

    Raises:
        HubProblem: the folder cannot be read or holds no transformer.
    """
    folder = Path(path).expanduser()
    try:
        names = [entry.name for entry in folder.iterdir()]
        if (
            _CONFIG_FILE not in names
        ):  # told before the walk: the folder may be anything, even the root of all
            raise no_config(names, str(folder))
        files = _files_in(folder)
    except (OSError, ValueError) as error:
        raise _unreadable(error, folder) from None
    paths = [file.path for file in files]
    facts = facts_from_config(str(folder), folder / _CONFIG_FILE)
    facts = replace(
        facts,
        files=files,
        has_chat_template=any(name in paths for name in _CHAT_TEMPLATE_FILES)
        or _tokenizer_has_template(folder),
        source=f"folder {folder}",
    )
    return with_headers_in(facts, folder)


def _is_folder(model: str) -> bool:
    """A path by its look or by its being there: a hub id has at most one slash and starts with none."""
    if model.startswith(("/", "./", "../", "~")) or model in (".", ".."):
        return True
    try:
        return Path(model).is_dir()
    except OSError:  # longer than any name
        return False


def _files_in(folder: Path) -> tuple[RepoFile, ...]:
    found: list[RepoFile] = []
    for parent, folders, names in os.walk(folder, onerror=_raise):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            path = Path(parent, name)
            if path.is_file():
                found.append(
                    RepoFile(path=path.relative_to(folder).as_posix(), size_bytes=path.stat().st_size)
                )
    return tuple(found)


def _tokenizer_has_template(folder: Path) -> bool:
    path = folder / "tokenizer_config.json"
    # A search in the text is enough: the key stands for itself, and the file may hold anything else.
    return (
        path.is_file() and path.stat().st_size <= MAX_CONFIG_BYTES and b'"chat_template"' in path.read_bytes()
    )


def _read(path: Path) -> bytes:
    try:
        size = path.stat().st_size
        if size > MAX_CONFIG_BYTES:
            raise config_too_large(size, str(path))
        return path.read_bytes()
    except OSError as error:
        raise _unreadable(error, path) from None


def _raise(error: OSError) -> None:
    raise error


def _unreadable(error: OSError | ValueError, path: Path) -> HubProblem:
    reason = (
        error.strerror if isinstance(error, OSError) else None
    )  # ValueError: no path at all, as with a NUL
    return problem(
        HubFailureKind.NOT_FOUND,
        f"{path} cannot be read ({reason or type(error).__name__}): check the path and its permissions.",
    )
