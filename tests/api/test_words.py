"""Texts of the custom resource: what is taken, and the sentence that meets the rest."""

from __future__ import annotations

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import ValidationError

from plimsoll.api.base import QUANTITY
from plimsoll.api.engine import TELLING_IMAGE
from plimsoll.api.spec import MODEL_ID, REVISION, ModelDeploymentSpec, ResourceAmounts
from plimsoll.manifests.engine import version_in_tag
from plimsoll.units import parse_quantity


@pytest.mark.parametrize(
    "model_id",
    [
        "gpt2",
        "facebook/opt-125m",
        "mistralai/Mistral-7B-Instruct-v0.3",
        "a/b",
        "01-ai/Yi_34B",
        "user__x/m.1-b_c",
    ],
)
def test_model_ids_of_the_hub_are_taken(model_id: str) -> None:
    assert ModelDeploymentSpec.model_validate({"model": {"id": model_id}}).model.id == model_id


@pytest.mark.parametrize(
    "model_id",
    [
        "a/b/c",
        "../x",
        "a b",
        "a;b",
        "$(id)",
        "a/b\n",
        "a--b",
        "a..b",
        "-a",
        "a/",
        "/a",
        "{{x}}",
        "a:b",
        "é/x",
        "!x",
    ],
)
def test_anything_else_is_refused_with_an_example(model_id: str) -> None:
    with pytest.raises(ValidationError) as refused:
        ModelDeploymentSpec.model_validate({"model": {"id": model_id}})
    assert "such as mistralai/Mistral-7B-Instruct-v0.3" in str(refused.value)


@pytest.mark.parametrize("revision", ["main", "v1.0", "refs/pr/12", "a" * 40, "fp8-dynamic", "feature/x_y"])
def test_branches_tags_and_commits_are_revisions(revision: str) -> None:
    assert REVISION.check(revision) == revision


@pytest.mark.parametrize(
    "revision", ["../../etc/passwd", "a/../b", "/etc", "a//b", "a/", ".hidden", "a b", "a\n"]
)
def test_a_path_is_no_revision(revision: str) -> None:
    with pytest.raises(ValidationError) as refused:
        ModelDeploymentSpec.model_validate({"model": {"id": "a/b", "revision": revision}})
    assert "never a path" in str(refused.value)


@pytest.mark.parametrize(
    ("given_", "kept"), [(4, "4"), ("500m", "500m"), ("1e3", "1e3"), (0, "0"), ("2Gi", "2Gi")]
)
def test_a_quantity_may_be_written_as_a_number(given_: object, kept: str) -> None:
    assert ResourceAmounts.model_validate({"cpu": given_}).cpu == kept


@pytest.mark.parametrize("given_", [-1, "-1", "4GB", "", "4 Gi", True, 0.5, "+-3", "Gi", None, [], "1e"])
def test_what_is_no_quantity_is_refused(given_: object) -> None:
    if given_ is None:
        assert ResourceAmounts.model_validate({"cpu": None}).cpu is None
        return
    with pytest.raises(ValidationError):
        ResourceAmounts.model_validate({"cpu": given_})


@given(st.from_regex(re.compile(QUANTITY.pattern), fullmatch=True).filter(lambda text: len(text) <= 16))
@example("0.")
@example(".5")
def test_whatever_the_schema_takes_as_a_quantity_can_be_read(text: str) -> None:
    if "e" in text.lower() and len(text.lower().rpartition("e")[2]) > 3:
        return  # an exponent out of range is refused by validation, with a sentence
    if text.isascii():
        assert parse_quantity(text) >= 0


@given(
    st.builds(
        "{}{}:{}{}".format,
        st.sampled_from(["", "docker.io/", "localhost:5000/", "a/b/"]),
        st.sampled_from(["vllm", "vllm-openai"]),
        st.from_regex(
            r"v?[0-9]{1,2}\.[0-9]{1,2}(\.[0-9]{1,2})?(\.post1|rc1)?([-_+][a-z0-9.]{1,5})?", fullmatch=True
        ),
        st.sampled_from(["", "@sha256:abc"]),
    )
    | st.sampled_from(
        ["vllm", "vllm:latest", "vllm:nightly", "localhost:5000/vllm", "vllm@sha256:abc", "x:0.33.0/y"]
    )
)
def test_the_rule_on_images_is_the_one_that_reads_the_tag(image: str) -> None:
    if image.isascii():
        assert (re.fullmatch(TELLING_IMAGE, image) is not None) == (version_in_tag(image) is not None)


def test_unknown_fields_are_named() -> None:
    with pytest.raises(ValidationError) as refused:
        ModelDeploymentSpec.model_validate({"model": {"id": "a/b"}, "modle": 1, "engine": {"vlm": {}}})
    assert {error["loc"] for error in refused.value.errors()} == {("modle",), ("engine", "vlm")}


def test_the_longest_id_that_the_hub_allows_fits() -> None:
    longest = f"{'o' * 96}/{'m' * 96}"
    assert MODEL_ID.check(longest) == longest
    assert ModelDeploymentSpec.model_validate({"model": {"id": longest}}).model.id == longest
