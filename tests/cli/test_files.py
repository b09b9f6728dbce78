from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from plimsoll.cli.errors import WrongUsageError
from plimsoll.cli.files import MAX_FILE_BYTES, read_documents, read_model_deployments

if TYPE_CHECKING:
    from pathlib import Path

GOOD = """\
apiVersion: plimsoll.dev/v1alpha1
kind: ModelDeployment
metadata: {name: mistral-7b}
spec: {model: {id: mistralai/Mistral-7B-Instruct-v0.3}}
"""


def written(folder: Path, text: str | bytes, name: str = "model.yaml") -> str:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return str(path)


def test_several_documents_other_kinds_and_lists_are_read(tmp_path: Path) -> None:
    second = GOOD.replace("mistral-7b", "second").replace("metadata: {", "metadata: {namespace: team-a, ")
    service = "apiVersion: v1\nkind: Service\nmetadata: {name: other}\n"
    listed = "apiVersion: v1\nkind: List\nitems:\n- " + GOOD.replace("mistral-7b", "third").replace(
        "\n", "\n  "
    )
    path = written(tmp_path, f"# expect: Ready\n---\n---\n{GOOD}---\n{service}---\n{second}---\n{listed}")

    found = read_model_deployments([path])

    assert [(one.name, one.namespace) for one in found] == [
        ("mistral-7b", "default"),
        ("second", "team-a"),
        ("third", "default"),
    ]


def test_a_namespace_on_the_command_line_wins(tmp_path: Path) -> None:
    assert read_model_deployments([written(tmp_path, GOOD)], "team-b")[0].namespace == "team-b"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        pytest.param("a: [", "is not YAML: ", id="not YAML"),
        pytest.param("- 1\n- 2\n", "is no Kubernetes object", id="a list"),
        pytest.param("hello", "is no Kubernetes object", id="a word"),
        pytest.param("", "holds no ModelDeployment", id="empty"),
        pytest.param("kind: Service\n", "holds no ModelDeployment", id="another kind"),
        pytest.param(b"\xff\xfe\x00", "is not UTF-8 text (byte 0)", id="binary"),
        pytest.param(
            GOOD + "kind: ModelDeployment\n", "the key 'kind' stands twice at line 5", id="a key twice"
        ),
        pytest.param(GOOD.replace("v1alpha1", "v1"), "write plimsoll.dev/v1alpha1", id="another version"),
        pytest.param(GOOD.replace("{name: mistral-7b}", "{}"), "has no metadata.name", id="no name"),
        pytest.param(GOOD.replace("{name: mistral-7b}", "[1]"), "has no metadata.name", id="metadata a list"),
        pytest.param(
            GOOD.replace("{name: mistral-7b}", "{name: 3}"), "has no metadata.name", id="name a number"
        ),
        pytest.param(GOOD.replace("spec: {model:", "spec: {modle:"), "spec.modle is no field", id="a typo"),
        pytest.param(
            GOOD.replace("spec: {model:", "spec: {modle:"), "spec.model is required", id="and what lacks"
        ),
        pytest.param(
            GOOD.replace("mistralai/", "$(rm -rf ~)/"),
            "spec.model.id: ",
            id="metacharacters",
        ),
        pytest.param(GOOD.replace("spec: {", "spec: {replicas: -1, "), "spec.replicas: ", id="a bound"),
        pytest.param(
            GOOD.replace("spec: {", "spec: [").replace("}}", "}]"), "correct the file", id="spec a list"
        ),
        pytest.param("[" * 100_000, "nested too deeply", id="nested"),
        pytest.param("? [a]\n: 1\n", "is not YAML: a key is no text", id="a list as key"),
        pytest.param(
            "!!python/object/apply:os.system ['true']", "could not determine a constructor", id="a tag"
        ),
    ],
)
def test_a_bad_file_is_one_sentence(tmp_path: Path, text: str | bytes, sentence: str) -> None:
    with pytest.raises(WrongUsageError) as caught:
        read_model_deployments([written(tmp_path, text)])

    assert sentence in caught.value.message
    assert "model.yaml" in caught.value.message


@pytest.mark.parametrize("name", ["absent.yaml", ".", "a\0b"], ids=["absent", "a folder", "a null byte"])
def test_a_file_that_cannot_be_read_is_one_sentence(tmp_path: Path, name: str) -> None:
    with pytest.raises(WrongUsageError, match="cannot be read"):
        read_documents(str(tmp_path / name))


def test_a_file_of_100_mb_is_refused_without_reading_it_whole(tmp_path: Path) -> None:
    path = tmp_path / "huge.yaml"
    with path.open("wb") as file:
        file.truncate(100 * 10**6)

    with pytest.raises(WrongUsageError, match=r"has over 32\.00 MiB"):
        read_documents(str(path))

    assert MAX_FILE_BYTES < 100 * 10**6
