"""Reading the files that a command names: bounded, and wrong in one sentence."""

from __future__ import annotations

import json
import sys
from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import Any, Final

import yaml
from pydantic import ValidationError

from plimsoll.api import API_VERSION, KIND
from plimsoll.api.malformed import malformed_fields
from plimsoll.api.spec import ModelDeployment
from plimsoll.cli.errors import WrongUsageError
from plimsoll.units import MIB, format_size

# etcd takes no object over 1.5 MiB; a file may hold a few dozen of them.
MAX_FILE_BYTES: Final = 32 * MIB
_SHOWN_PROBLEMS: Final = 8
# An object that was never applied has no uid yet.
_NO_UID: Final = "00000000-0000-0000-0000-000000000000"


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader, which refuses a key that stands twice as the API server does.

    Not the one on libyaml: deep nesting overflows its stack and ends the process.
    """


def _mapping(loader: _Loader, node: yaml.MappingNode) -> dict[Hashable, Any]:
    seen: set[Any] = set()
    for key_node, _ in node.value:
        key = loader.construct_object(key_node, deep=True)
        if not isinstance(key, Hashable):
            raise yaml.constructor.ConstructorError(None, None, "a key is no text", key_node.start_mark)
        if key in seen and key_node.tag != "tag:yaml.org,2002:merge":
            raise yaml.constructor.ConstructorError(
                None, None, f"the key {key!r} stands twice", key_node.start_mark
            )
        seen.add(key)
    loader.flatten_mapping(node)
    return dict(loader.construct_mapping(node, deep=True))


_Loader.add_constructor("tag:yaml.org,2002:map", _mapping)


def read_text(path: str, what: str) -> str:
    """The text of a file, or of stdin for "-".

    Raises:
        WrongUsageError: it is not there, not readable, too large or not UTF-8.
    """
    try:
        if path == "-":
            raw = sys.stdin.buffer.read(MAX_FILE_BYTES + 1)
        else:
            with Path(path).open("rb") as file:
                raw = file.read(MAX_FILE_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise WrongUsageError(f"{what} {path} cannot be read ({reason}); name a readable file.") from None
    if len(raw) > MAX_FILE_BYTES:
        raise WrongUsageError(f"{what} {path} has over {format_size(MAX_FILE_BYTES)}; it is not such a file.")
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise WrongUsageError(
            f"{what} {path} is not UTF-8 text (byte {error.start}); name a text file."
        ) from None


def read_documents(path: str, what: str = "file") -> tuple[dict[str, Any], ...]:
    """The Kubernetes objects of a YAML or JSON file; a List is taken apart, empty documents are left out.

    Raises:
        WrongUsageError: the file is not YAML, or a document is no object.
    """
    text = read_text(path, what)
    try:
        loaded = [document for document in yaml.load_all(text, Loader=_Loader) if document is not None]
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise WrongUsageError(f"{what} {path} is not YAML: {_yaml_problem(error)}; correct it.") from None
    objects: list[dict[str, Any]] = []
    for number, document in enumerate(loaded, start=1):
        objects += _taken_apart(document, f"{what} {path}, document {number},")
    return tuple(objects)


def _loaded(text: str) -> list[Any]:
    """The documents; one JSON document is read as such, a hundred times as fast as by YAML's parser."""
    if text.lstrip()[:1] == "{":
        try:
            return [json.loads(text)]
        except json.JSONDecodeError:
            pass  # YAML in braces, or several documents
    return [document for document in yaml.load_all(text, Loader=_Loader) if document is not None]


def read_model_deployments(paths: Sequence[str], namespace: str | None = None) -> tuple[ModelDeployment, ...]:
    """Every ModelDeployment of the files; other kinds are left out.

    Raises:
        WrongUsageError: a file is not readable, holds none, or one of them is malformed.
    """
    found: list[ModelDeployment] = []
    for path in paths:
        ours = [body for body in read_documents(path) if body.get("kind") == KIND]
        if not ours:
            raise WrongUsageError(f"file {path} holds no {KIND}; write one with apiVersion {API_VERSION}.")
        found += [model_deployment(body, path, namespace) for body in ours]
    return tuple(found)


def model_deployment(body: dict[str, Any], path: str, namespace: str | None = None) -> ModelDeployment:
    """One object as the operator would read it.

    Raises:
        WrongUsageError: it is of another version, has no name, or its spec is malformed; all problems at once.
    """
    if body.get("apiVersion") != API_VERSION:
        raise WrongUsageError(
            f"file {path}: apiVersion of a {KIND} is {body.get('apiVersion')!r}; write {API_VERSION}."
        )
    metadata = body.get("metadata")
    name = metadata.get("name") if isinstance(metadata, dict) else None
    if not isinstance(metadata, dict) or not isinstance(name, str) or not name:
        raise WrongUsageError(f"file {path}: a {KIND} has no metadata.name; give it one.")
    identity = {**metadata, "uid": metadata.get("uid") or _NO_UID}
    identity["namespace"] = namespace or metadata.get("namespace") or "default"
    try:
        return ModelDeployment.from_object({**body, "metadata": identity})
    except ValidationError as error:
        problems = _problems(error)
        raise WrongUsageError(f"file {path}, {KIND} {name}: {problems}; correct the file.") from None
    except (TypeError, ValueError) as error:
        raise WrongUsageError(f"file {path}, {KIND} {name}: {error}; correct the file.") from None


def _taken_apart(document: Any, where: str) -> list[dict[str, Any]]:
    if not isinstance(document, dict):
        raise WrongUsageError(f"{where} is no Kubernetes object; write apiVersion, kind and metadata.")
    if not str(document.get("kind", "")).endswith("List") or not isinstance(document.get("items"), list):
        return [document]
    items = document["items"]
    if not all(isinstance(item, dict) for item in items):
        raise WrongUsageError(f"{where} is a List with an item that is no object; correct it.")
    kind = str(document["kind"]).removesuffix("List")
    return [{"kind": kind, **item} if kind else item for item in items]


def _problems(error: ValidationError) -> str:
    sentences = malformed_fields(error)
    more = len(sentences) - _SHOWN_PROBLEMS
    shown = "; ".join(sentences[:_SHOWN_PROBLEMS])
    return f"{shown}; and {more} more" if more > 0 else shown


def _yaml_problem(error: Exception) -> str:
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        mark = error.problem_mark
        return f"{error.problem} at line {mark.line + 1}, column {mark.column + 1}"
    return "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
