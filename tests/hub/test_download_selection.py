from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plimsoll.sizing import catalogue
from plimsoll.sizing.facts import RepoFile
from plimsoll.sizing.selection import download_files, is_weight_file, weight_files


def repo(*paths: str) -> tuple[RepoFile, ...]:
    return tuple(RepoFile(path=path, size_bytes=1) for path in paths)


@pytest.mark.parametrize(
    ("paths", "expected"),
    [
        pytest.param(
            ["model.safetensors", "pytorch_model.bin"], ["model.safetensors"], id="safetensors-first"
        ),
        pytest.param(["pytorch_model.bin", "training_args.bin"], ["pytorch_model.bin"], id="bin"),
        pytest.param(
            ["model.safetensors", "consolidated.safetensors"], ["model.safetensors"], id="no-second-copy"
        ),
        pytest.param(["consolidated.safetensors"], [], id="only-the-format-of-mistral-inference"),
        pytest.param(["original/a.safetensors", "a.safetensors"], ["a.safetensors"], id="no-subfolder"),
        pytest.param(["model.pt", "optimizer.pt"], ["model.pt"], id="pt"),
        pytest.param(["README.md", "q.gguf"], [], id="none"),
    ],
)
def test_the_weights_are_those_that_the_engine_loads(paths: list[str], expected: list[str]) -> None:
    assert [file.path for file in weight_files(repo(*paths))] == expected
    assert [file.path for file in download_files(repo(*paths)) if is_weight_file(file.path)] == expected


@pytest.mark.parametrize("model", catalogue.model_ids())
def test_no_model_of_the_catalogue_is_downloaded_twice_over(model: str) -> None:
    facts = catalogue.lookup(model)
    assert facts is not None
    chosen = download_files(facts.files)
    weights = [file for file in chosen if file in weight_files(facts.files)]
    assert sum(f.size_bytes for f in weights) >= (catalogue.tensor_bytes(model) or 0)
    # Beside the weights there are only tokenizers, at most a few tens of megabytes.
    assert sum(f.size_bytes for f in chosen) - sum(f.size_bytes for f in weights) < 50_000_000


names = st.sampled_from(
    ["a.safetensors", "b.bin", "config.json", "x/y.json", "tokenizer.model", "README.md", "m.pt"]
)


@given(
    st.lists(names, unique=True),
    st.one_of(st.none(), st.lists(st.sampled_from(["*.bin", "*", "x/"])).map(tuple)),
)
def test_a_selection_is_a_part_of_the_repository_in_its_order(
    paths: list[str], patterns: tuple[str, ...] | None
) -> None:
    files = repo(*paths)
    chosen = download_files(files, patterns)
    assert [file for file in files if file in chosen] == list(chosen)
    assert all(file in chosen for file in files if file.path == "config.json")
