"""Which files of a repository are downloaded: what the engine loads, and not the same tensors twice.

A repository often holds its weights several times (safetensors, .bin, consolidated, original/). The size of a
volume and the download follow this one rule, so that they agree.
"""

from __future__ import annotations

import fnmatch
import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

    from plimsoll.sizing.facts import RepoFile

# Beside the weights: config, tokenizer, chat template, code of models that bring their own.
_COMPANION_SUFFIXES: Final = (".json", ".jinja", ".model", ".txt", ".tiktoken", ".py")
_WEIGHT_SUFFIXES: Final = (
    ".safetensors", ".bin", ".pt", ".pth", ".gguf", ".ggml", ".msgpack", ".h5", ".onnx", ".ot", ".ckpt", ".npz",
)  # fmt: skip


# As vLLM's default loader looks for them: the first form that is there is the one that it loads.
_WEIGHT_FORMS: Final = (".safetensors", ".bin", ".pt")
_INDEX: Final = "model.safetensors.index.json"
_SHARD: Final = re.compile(r"model-\d{5,6}-of-\d{5,6}\.safetensors")
# The second copy for mistral-inference, and the .bin and .pt files that trainers leave behind.
_NOT_WEIGHTS: Final = ("consolidated", "training_args", "optimizer", "scheduler", "rng_state", "scaler")


def weight_files(files: Iterable[RepoFile]) -> tuple[RepoFile, ...]:
    """The weight files that the engine loads: safetensors if there are any, else .bin, else .pt.

    Source: vLLM, model_executor/model_loader/default_loader.py and weight_utils.py (filter_duplicate_safetensors_files).
    """
    at_root = [file for file in files if "/" not in file.path and not file.path.startswith(_NOT_WEIGHTS)]
    for suffix in _WEIGHT_FORMS:
        found = tuple(file for file in at_root if file.path.endswith(suffix))
        if found:
            return _indexed(at_root, found) if suffix == _WEIGHT_FORMS[0] else found
    return ()


def _indexed(at_root: list[RepoFile], found: tuple[RepoFile, ...]) -> tuple[RepoFile, ...]:
    """The shards, where an index stands beside them: the engine takes no file that the index does not name."""
    if all(file.path != _INDEX for file in at_root):
        return found
    return tuple(file for file in found if _SHARD.fullmatch(file.path)) or found


def download_files(
    files: Iterable[RepoFile], allow_patterns: tuple[str, ...] | None = None
) -> tuple[RepoFile, ...]:
    """The files that a download takes, in the order given.

    Args:
        files: all files of the repository.
        allow_patterns: shell patterns over the whole path, as huggingface_hub reads them, that choose the weights;
            None for what the engine loads. Config and tokenizer come along in any case: without them nothing
            starts.
    """
    everything = tuple(files)
    if allow_patterns is None:
        wanted = {file.path for file in weight_files(everything)}
    else:
        patterns = [f"{p}*" if p.endswith("/") else p for p in allow_patterns]
        wanted = {f.path for f in everything if any(fnmatch.fnmatchcase(f.path, p) for p in patterns)}
    return tuple(file for file in everything if file.path in wanted or _is_companion(file.path))


def is_weight_file(path: str) -> bool:
    """Whether a path looks like weights, of whatever form."""
    return path.endswith(_WEIGHT_SUFFIXES)


def _is_companion(path: str) -> bool:
    return "/" not in path and path.endswith(_COMPANION_SUFFIXES)
