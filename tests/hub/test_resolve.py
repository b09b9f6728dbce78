from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from plimsoll.hub.client import HubClient
from plimsoll.hub.config import MAX_CONFIG_BYTES
from plimsoll.hub.errors import HubProblem
from plimsoll.hub.resolve import LOCAL_COMMIT, facts_for
from plimsoll.reconcile.sources import HubFailureKind as Kind
from plimsoll.sizing.catalogue import CATALOGUE_COMMIT
from plimsoll.sizing.facts import RepoFile

if TYPE_CHECKING:
    from pathlib import Path

    from plimsoll.sandbox.hubstandin import HubStandIn

CONFIG = {"architectures": ["LlamaForCausalLM"], "model_type": "llama"}
KNOWN = "mistralai/Mistral-7B-Instruct-v0.3"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    (tmp_path / "model.safetensors").write_bytes(b"w" * 7)
    (tmp_path / "original").mkdir()
    (tmp_path / "original" / "a.pth").write_bytes(b"x")
    (tmp_path / ".cache").mkdir()
    (tmp_path / ".cache" / "note").write_bytes(b"x")
    return tmp_path


async def test_a_model_of_the_catalogue_needs_no_hub() -> None:
    facts = await facts_for(KNOWN.upper())
    assert (facts.model_id, facts.commit, facts.source[:9]) == (KNOWN, CATALOGUE_COMMIT, "catalogue")


async def test_a_revision_other_than_main_is_for_the_hub(hub: HubStandIn) -> None:
    commit = hub.commit_of(KNOWN)
    facts = await facts_for(KNOWN, commit, hub=HubClient(hub.url))
    assert (facts.commit, facts.source) == (commit, "Hub")


async def test_a_model_that_the_catalogue_lacks_is_asked_of_the_hub(hub: HubStandIn) -> None:
    commit = hub.add_repo("org/tiny", {"config.json": json.dumps(CONFIG).encode()})
    assert (await facts_for("org/tiny", hub=HubClient(hub.url))).commit == commit


async def test_a_local_folder_comes_before_everything(folder: Path) -> None:
    facts = await facts_for(str(folder))
    assert facts.config == CONFIG
    assert facts.commit == LOCAL_COMMIT
    assert facts.files == (
        RepoFile(path="config.json", size_bytes=len(json.dumps(CONFIG))),
        RepoFile(path="model.safetensors", size_bytes=7),
        RepoFile(path="original/a.pth", size_bytes=1),
    )


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("chat_template.jinja", "{{ x }}", True),
        ("tokenizer_config.json", '{"chat_template": "x"}', True),
        ("tokenizer_config.json", "{}", False),
        ("other.json", "{}", False),
    ],
)
async def test_a_folder_tells_whether_it_has_a_chat_template(
    folder: Path, name: str, content: str, expected: bool
) -> None:
    (folder / name).write_text(content)
    assert (await facts_for(str(folder))).has_chat_template is expected


async def test_a_config_file_stands_for_the_model_that_is_named(folder: Path) -> None:
    facts = await facts_for(KNOWN, config_file=folder / "config.json")
    assert (facts.model_id, facts.config, facts.files) == (KNOWN, CONFIG, ())


@pytest.mark.parametrize(
    ("model", "kind", "says"),
    [
        ("./nowhere", Kind.NOT_FOUND, "nowhere cannot be read (No such file or directory)"),
        ("/dev/null", Kind.NOT_FOUND, "/dev/null cannot be read (Not a directory)"),
        ("/", Kind.NOT_A_TRANSFORMER, "/ has no config.json"),
        ("/\0", Kind.NOT_FOUND, "cannot be read (ValueError)"),
        ("a" * 300, Kind.INVALID_REFERENCE, "model id 'aaa"),
        ("a b", Kind.INVALID_REFERENCE, "model id 'a b' cannot be"),
        ("org/unknown", Kind.NOT_FOUND, "not in the bundled catalogue"),
        ("llama2:13b", Kind.INVALID_REFERENCE, "name the original, meta-llama/Llama-2-13b-chat-hf"),
    ],
)
async def test_what_is_nowhere_is_said_in_one_sentence(model: str, kind: Kind, says: str) -> None:
    with pytest.raises(HubProblem) as caught:
        await facts_for(model)
    assert caught.value.kind is kind
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"{", Kind.CONFIG_NOT_JSON),
        (b"{}", Kind.NOT_A_TRANSFORMER),
        (b" " * (MAX_CONFIG_BYTES + 1), Kind.CONFIG_TOO_LARGE),
        (None, Kind.NOT_FOUND),
    ],
    ids=["broken", "no-transformer", "too-large", "absent"],
)
async def test_a_config_file_that_is_none_is_refused(
    tmp_path: Path, content: bytes | None, kind: Kind
) -> None:
    path = tmp_path / "config.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(HubProblem) as caught:
        await facts_for("any", config_file=path)
    assert caught.value.kind is kind
    assert str(path) in str(caught.value)


async def test_an_empty_folder_has_no_model(tmp_path: Path) -> None:
    with pytest.raises(HubProblem) as caught:
        await facts_for(str(tmp_path))
    assert caught.value.kind is Kind.NOT_A_TRANSFORMER
