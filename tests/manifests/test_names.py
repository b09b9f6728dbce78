"""Names and label values are legal whatever a ModelDeployment is called, and never meet."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plimsoll.manifests import names

DNS_LABEL = re.compile(r"^[a-z]([-a-z0-9]{0,61}[a-z0-9])?$")
LABEL_VALUE = re.compile(r"^[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$")
HASH = "0123456789"

segment = st.from_regex(r"[a-z0-9]([-a-z0-9]{0,60}[a-z0-9])?", fullmatch=True)
object_name = st.lists(segment, min_size=1, max_size=6).map(".".join).map(lambda n: n[:253].rstrip(".-"))

BUILDERS = [
    pytest.param(names.public_service_name, id="public service"),
    pytest.param(names.volume_claim_name, id="claim"),
    pytest.param(lambda name: names.server_name(name, HASH), id="server"),
    pytest.param(lambda name: names.download_job_name(name, HASH), id="download job"),
    pytest.param(lambda name: names.suite_config_map_name(name, HASH), id="suite"),
    pytest.param(lambda name: names.test_job_name(name, HASH), id="test job"),
]


@pytest.mark.parametrize("build", BUILDERS)
@given(name=object_name)
def test_every_name_is_a_dns_label_of_at_most_63_characters(build, name: str) -> None:
    assert DNS_LABEL.match(build(name))


@pytest.mark.parametrize("build", BUILDERS)
@given(one=object_name, other=object_name)
def test_two_deployments_never_share_a_child(build, one: str, other: str) -> None:
    assert (build(one) == build(other)) == (one == other)


@pytest.mark.parametrize("build", BUILDERS)
def test_long_names_that_differ_at_the_end_only_keep_apart(build) -> None:
    assert build("a" * 252 + "b") != build("a" * 252 + "c")


@given(name=object_name)
def test_label_values_are_legal_and_name_the_service(name: str) -> None:
    assert LABEL_VALUE.match(names.label_value(name))
    assert names.label_value(name) == names.public_service_name(name)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        pytest.param("mistral-7b", "mistral-7b", id="a DNS label stays"),
        pytest.param("mistral-7b-v0.3", "mistral-7b-v0-3-4a651c90", id="a dot"),
        pytest.param("7b", "m-7b-925a7bf1", id="a leading digit"),
        pytest.param("a" * 63, "a" * 63, id="63 characters"),
    ],
)
def test_only_what_is_no_dns_label_is_shortened(name: str, expected: str) -> None:
    assert expected == names.public_service_name(name)


def test_one_revision_of_a_name_of_253_characters_keeps_its_hash() -> None:
    name = names.server_name("m" * 253, HASH)

    assert len(name) == 63
    assert name.endswith(f"-{HASH}")


def test_a_model_has_its_own_folder_for_each_commit() -> None:
    assert names.model_folder("mistralai/Mistral-7B", "abc") == "mistralai--Mistral-7B/abc"
