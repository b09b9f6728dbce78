"""The bundled catalogue: what sizing needs to know of well-known models, with where each fact comes from.

One TOML file per model in `models/`, in a schema of our own: `config` has the keys of config.json that take
part in a size, `config_nulls` those that stand there as null (TOML has none, and a missing key would take the
library's default); `weights` the weight files, the first table being what the engine loads and the others the
same tensors once more; `files` what else is large enough to count; `quantized_of` the model that this one is a
quantised build of; `ollama` what Ollama calls it; `difference` what the files hold beside what the config implies, in bytes, and why. Each carries a provenance, and what was
written from memory ("recalled") makes the whole entry so, unless the arithmetic of another fact confirms it.
"""

from __future__ import annotations

import copy
import tomllib
from functools import cache
from importlib import resources
from typing import Any, Final

from plimsoll.sizing.facts import ModelFacts, Provenance, RepoFile
from plimsoll.units import ceil_div

CATALOGUE_VERSION: Final = "2026-11-21"
# The catalogue follows no commit, so it never shows one: this cannot be taken for 40 hex digits.
CATALOGUE_COMMIT: Final = f"catalogue-{CATALOGUE_VERSION}"

_SUFFIX: Final = ".toml"


def model_ids() -> tuple[str, ...]:
    """The ids of every model in the catalogue, sorted without regard to case."""
    return tuple(sorted((_id_of(name) for name in _file_names().values()), key=str.lower))


def lookup(model_id: str) -> ModelFacts | None:
    """The facts of a model by its exact id, case ignored; None where the catalogue does not have it.

    The commit of the result is CATALOGUE_COMMIT: facts for an estimate, not for a download.
    """
    row = _row(model_id)
    if row is None:
        return None
    weights = row["weights"]
    files = [file for table in weights for file in _weight_files(table)]
    files += [RepoFile(path=f["path"], size_bytes=f["size_bytes"]) for f in row.get("files", ())]
    return ModelFacts(
        model_id=row["id"],
        requested_revision="main",
        commit=CATALOGUE_COMMIT,
        config=copy.deepcopy(row["config"]) | dict.fromkeys(row.get("config_nulls", ())),
        files=tuple(sorted(files, key=lambda f: f.path)),
        parameters_by_dtype=dict(row["parameters"]),
        has_chat_template=row["has_chat_template"],
        unloaded_bytes=_unloaded(row),
        provenance=_provenance(row),
        source=_source(row),
    )


def is_gated(model_id: str) -> bool:
    """Whether the repository of a model of the catalogue wants an accepted licence and a token.

    Raises:
        KeyError: the catalogue does not have the model.
    """
    row = _row(model_id)
    if row is None:
        raise KeyError(model_id)
    return bool(row["gated"])


def license_of(model_id: str) -> str:
    """The licence as the model's card names it ("apache-2.0", "llama3.1", "other").

    Raises:
        KeyError: the catalogue does not have the model.
    """
    row = _row(model_id)
    if row is None:
        raise KeyError(model_id)
    return str(row["license"])


def base_of(model_id: str) -> str | None:
    """The model that an entry is a quantised build of; None where it is none.

    Raises:
        KeyError: the catalogue does not have the model.
    """
    row = _row(model_id)
    if row is None:
        raise KeyError(model_id)
    base = row.get("quantized_of")
    return None if base is None else str(base)


def original_of(ollama_name: str) -> str | None:
    """The model that Ollama serves under this name as GGUF ("llama2:13b", with its quantisation or without)."""
    family, _, tag = ollama_name.lower().strip().partition(":")
    size = tag.partition("-")[0]
    wanted = f"{family}:{size}" if size and size != "latest" else family
    rows = map(_parsed, _file_names().values())
    return next((str(row["id"]) for row in rows if wanted in row.get("ollama", ())), None)


def quantized_siblings(model_id: str) -> tuple[str, ...]:
    """Quantised builds of the same model, the smallest first, itself left out; empty where none is known."""
    own = _row(model_id)
    if own is None:
        return ()
    base = own.get("quantized_of", own["id"])
    found = [
        row
        for name in _file_names().values()
        if (row := _parsed(name)).get("quantized_of", "").lower() == base.lower()
        and row["id"].lower() != model_id.lower()
    ]
    return tuple(row["id"] for row in sorted(found, key=lambda row: (_loaded_bytes(row), row["id"])))


def tensor_bytes(model_id: str) -> int | None:
    """The bytes of all tensors in the files that the engine loads, without headers; None where unknown.

    Raises:
        KeyError: the catalogue does not have the model.
    """
    row = _row(model_id)
    if row is None:
        raise KeyError(model_id)
    value = row["weights"][0].get("tensor_bytes")
    return None if value is None else int(value)


def _unloaded(row: dict[str, Any]) -> dict[str, int]:
    difference = row.get("difference")
    return {} if difference is None else {difference["why"]: difference["bytes"]}


def _loaded_bytes(row: dict[str, Any]) -> int:
    return sum(file.size_bytes for file in _weight_files(row["weights"][0]))


def _provenance(row: dict[str, Any]) -> Provenance:
    """The weakest of what an estimate rests on: the config and the first table of weights."""
    found = {Provenance(row["config_facts"]["provenance"]), Provenance(row["weights"][0]["provenance"])}
    order = (Provenance.RECALLED, Provenance.PUBLISHED, Provenance.MEASURED)
    return next(level for level in order if level in found)


def _source(row: dict[str, Any]) -> str:
    config, weights = row["config_facts"]["source"], row["weights"][0]["source"]
    return f"catalogue {CATALOGUE_VERSION} (config: {config}; weights: {weights})"


def _weight_files(table: dict[str, Any]) -> list[RepoFile]:
    sizes = table.get("shard_bytes") or _even_shards(table["total_bytes"], table["shards"])
    count = len(sizes)
    return [
        RepoFile(path=table["name"].format(i=index + 1, j=index, n=count), size_bytes=size)
        for index, size in enumerate(sizes)
    ]


def _even_shards(total_bytes: int, shards: int) -> list[int]:
    """A total split evenly where the single sizes are not known: the sum is what counts."""
    largest = ceil_div(total_bytes, shards)
    return [largest] * (shards - 1) + [total_bytes - largest * (shards - 1)]


@cache
def _file_names() -> dict[str, str]:
    """File name by lower-case model id."""
    names = [
        entry.name for entry in resources.files("plimsoll.sizing.catalogue").joinpath("models").iterdir()
    ]
    return {_id_of(name).lower(): name for name in names if name.endswith(_SUFFIX)}


def _id_of(file_name: str) -> str:
    return file_name.removesuffix(_SUFFIX).replace("--", "/")


def _row(model_id: str) -> dict[str, Any] | None:
    name = _file_names().get(model_id.lower())
    return None if name is None else _parsed(name)


@cache
def _parsed(file_name: str) -> dict[str, Any]:
    path = resources.files("plimsoll.sizing.catalogue").joinpath("models", file_name)
    return tomllib.loads(path.read_text("utf-8"))
