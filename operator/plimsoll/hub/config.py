"""Reading config.json, whoever wrote it: bounded in size, an object, and a transformer's."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from plimsoll.hub.errors import problem
from plimsoll.reconcile.sources import HubFailureKind
from plimsoll.units import MIB, format_size

if TYPE_CHECKING:
    from collections.abc import Iterable

# The largest config seen (an NVFP4 checkpoint that lists its unquantized layers) has 0.1 MiB.
MAX_CONFIG_BYTES: Final = 4 * MIB

# What a repository without config.json turns out to hold: a file that tells, and the sentence.
_TELLTALES: Final = (
    ("adapter_config.json", "it holds a LoRA adapter: name the base model instead"),
    (
        "model_index.json",
        "it holds a diffusion pipeline, which vLLM's text server does not load: name a language model",
    ),
    (".gguf", "it holds GGUF files, which vLLM no longer loads: name the repository of the original weights"),
    (".onnx", "it holds ONNX files, which vLLM does not load: name the repository of the original weights"),
    (
        "params.json",
        "it is in the format of mistral-inference: name the repository in the format of transformers",
    ),
)


def parse_config(raw: bytes, where: str) -> dict[str, Any]:
    """The object in a config.json.

    Args:
        raw: the file's bytes.
        where: how messages call it ("config.json of org/name").

    Raises:
        HubProblem: it is too large, not JSON, not an object, or not a transformer's.
    """
    if len(raw) > MAX_CONFIG_BYTES:
        raise config_too_large(len(raw), where)
    try:
        config = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise problem(
            HubFailureKind.CONFIG_NOT_JSON,
            f"{where} is not JSON{_position(error)}: repair the file, or name a revision in which it is whole.",
        ) from None
    if not isinstance(config, dict):
        raise problem(
            HubFailureKind.CONFIG_NOT_JSON,
            f"{where} holds {_json_kind(config)} where an object is expected: repair the file, or name a revision "
            "in which it is whole.",
        )
    if not _names_an_architecture(config):
        raise problem(
            HubFailureKind.NOT_A_TRANSFORMER,
            f"{where} names neither `architectures` nor `model_type`, so it is not a transformer's: name a model "
            "that vLLM serves.",
        )
    return config


def config_too_large(size_bytes: int, where: str) -> Exception:
    """The failure for a config.json over the bound."""
    return problem(
        HubFailureKind.CONFIG_TOO_LARGE,
        f"{where} has {format_size(size_bytes)} or more, over the bound of {format_size(MAX_CONFIG_BYTES)}: it is not "
        "a model's config; name another repository or revision.",
    )


def no_config(paths: Iterable[str], where: str) -> Exception:
    """The failure for a repository or a folder without config.json, with what it seems to hold instead."""
    names = [path.rsplit("/", 1)[-1] for path in paths]
    for tell, sentence in _TELLTALES:
        if any(name == tell or (tell.startswith(".") and name.endswith(tell)) for name in names):
            return problem(HubFailureKind.NOT_A_TRANSFORMER, f"{where} has no config.json: {sentence}.")
    return problem(
        HubFailureKind.NOT_A_TRANSFORMER,
        f"{where} has no config.json, so it is not a transformer: name a model that vLLM serves.",
    )


def _names_an_architecture(config: dict[str, Any]) -> bool:
    return bool(config.get("architectures")) or bool(config.get("model_type"))


def _position(error: Exception) -> str:
    if isinstance(error, json.JSONDecodeError):
        return f" (line {error.lineno}, column {error.colno})"
    if isinstance(error, UnicodeDecodeError):
        return f" (byte {error.start} is not UTF-8)"
    return ""


def _json_kind(value: object) -> str:
    kinds = {list: "a list", str: "a string", bool: "true or false", int: "a number", float: "a number"}
    return kinds.get(type(value), "null")
