"""Which Secrets are read, and which token goes where."""

from __future__ import annotations

import base64

import pytest

from plimsoll.api.conditions import Reason
from plimsoll.api.spec import SecretKeyRef
from plimsoll.cluster.errors import NotFoundError
from plimsoll.cluster.secrets import SecretProblem, read_token
from plimsoll.manifests import labels

HUB = "https://hub.test"
REF = SecretKeyRef(name="hf", key="token")
LABELLED = {labels.HF_TOKEN: "true"}


class Cluster:
    """One Secret, and what was asked of it."""

    def __init__(self, *, marks=None, annotations=None, data=None, missing=False, later=None):
        self.secret = {
            "metadata": {"labels": marks, "annotations": annotations},
            "data": {"token": base64.b64encode(b"hf_token\n").decode()} if data is None else data,
        }
        self.missing = missing
        self.later = later
        self.asked = []

    async def get_metadata(self, kind, name, namespace):
        self.asked.append("metadata")
        return self._answer()

    async def get(self, kind, name, namespace):
        self.asked.append("data")
        if self.later is not None:
            self.secret["metadata"]["labels"] = self.later
        return self._answer()

    def _answer(self):
        if self.missing:
            raise NotFoundError("read", status=404, reason="NotFound", message="no")
        return self.secret


async def test_a_labelled_token_is_read_without_its_line_end():
    assert await read_token(Cluster(marks=LABELLED), "n", REF, HUB) == "hf_token"


@pytest.mark.parametrize("named", [HUB, f"{HUB}/"])
async def test_a_token_for_this_hub_is_read(named):
    cluster = Cluster(marks=LABELLED, annotations={labels.HF_ENDPOINT: named})
    assert await read_token(cluster, "n", REF, HUB) == "hf_token"


@pytest.mark.parametrize(
    "marks",
    [None, {}, {labels.HF_TOKEN: "false"}, {labels.HF_TOKEN: "True"}],
    ids=["none", "empty", "no", "case"],
)
async def test_the_data_of_a_secret_without_the_label_is_never_asked_for(marks):
    cluster = Cluster(marks=marks)
    with pytest.raises(SecretProblem, match="has no label") as caught:
        await read_token(cluster, "n", REF, HUB)
    assert (caught.value.reason, cluster.asked) == (Reason.SECRET_NOT_USABLE, ["metadata"])


async def test_a_label_taken_away_between_the_two_requests_counts():
    with pytest.raises(SecretProblem, match="has no label"):
        await read_token(Cluster(marks=LABELLED, later={}), "n", REF, HUB)


@pytest.mark.parametrize("named", ["https://elsewhere.test", "https://hub.test.evil", "http://hub.test", ""])
async def test_a_token_for_another_hub_is_refused(named):
    cluster = Cluster(marks=LABELLED, annotations={labels.HF_ENDPOINT: named})
    with pytest.raises(SecretProblem, match="is for the Hub at") as caught:
        await read_token(cluster, "n", REF, HUB)
    assert (caught.value.reason, cluster.asked) == (Reason.SECRET_NOT_USABLE, ["metadata"])


async def test_a_secret_that_is_not_there_is_waited_for():
    with pytest.raises(SecretProblem, match="Secret n/hf does not exist; create it with the label") as caught:
        await read_token(Cluster(missing=True), "n", REF, HUB)
    assert caught.value.reason is Reason.SECRET_NOT_FOUND


@pytest.mark.parametrize(
    ("data", "says"),
    [
        ({}, "has no key token"),
        ({"token": ""}, "holds no token"),
        ({"token": "***"}, "holds no token"),
        ({"token": base64.b64encode(b"two words").decode()}, "holds no token"),
        ({"token": base64.b64encode("hf_\u00e4".encode()).decode()}, "holds no token"),
        ({"token": base64.b64encode(b"hf_a\r\nX-Evil: 1").decode()}, "holds no token"),
    ],
    ids=["no key", "empty", "no base64", "two words", "no ASCII", "two lines"],
)
async def test_what_is_no_token_is_said_and_not_repeated(data, says):
    with pytest.raises(SecretProblem, match=says) as caught:
        await read_token(Cluster(marks=LABELLED, data=data), "n", REF, HUB)
    assert "Evil" not in str(caught.value)
