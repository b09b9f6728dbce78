"""One pass of `reconcile` at its edges: what is gone, what cannot be read, what the user named and is not there."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from plimsoll.api.conditions import Reason
from plimsoll.api.status import Condition
from plimsoll.cluster.apply import Applier
from plimsoll.cluster.errors import NotFoundError
from plimsoll.cluster.kinds import MODEL_DEPLOYMENT
from plimsoll.cluster.store import Store
from plimsoll.controller.executor import Executor
from plimsoll.controller.keys import Key
from plimsoll.controller.measuring import Measuring
from plimsoll.controller.metrics import Metrics
from plimsoll.controller.reconciler import POLL_SECONDS, Reconciler
from plimsoll.manifests.context import Settings
from plimsoll.reconcile.outcome import Waiting

KEY = Key("n", "m")
NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)


class Client:
    """Records what is written; finds nothing."""

    def __init__(self):
        self.statuses = []
        self.events = []
        self.asked = []

    async def write_status(self, kind, body):
        self.statuses.append(body["status"])
        version = str(int(body["metadata"]["resourceVersion"]) + 1)
        return {**body, "metadata": {**body["metadata"], "resourceVersion": version, "generation": 2}}

    async def create(self, kind, body):
        self.events.append(body)

    async def get(self, kind, name, namespace):
        self.asked.append((kind.kind, name))
        raise NotFoundError("read", status=404, reason="NotFound", message="no")


class Sizer:
    def __init__(self, reason=Reason.SECRET_NOT_FOUND):
        self.reason = reason

    async def size(self, deployment, previous):
        return Waiting(reason=self.reason, message="It waits; do something.")


def make(body=None, **sizer):
    client, store, metrics = Client(), Store(), Metrics()
    if body is not None:
        store.put(MODEL_DEPLOYMENT, body)
    executor = Executor(
        client=client, store=store, applier=Applier(client, store), metrics=metrics, identity="me"
    )
    reconciler = Reconciler(
        client=client,
        store=store,
        sizer=Sizer(**sizer),
        executor=executor,
        measuring=Measuring(),
        metrics=metrics,
        settings=Settings(),
        now=lambda: NOW,
    )
    return reconciler, client, store


def body(spec=None, **metadata):
    return {
        "apiVersion": "plimsoll.dev/v1alpha1",
        "kind": "ModelDeployment",
        "metadata": {
            "name": "m",
            "namespace": "n",
            "uid": "u",
            "generation": 2,
            "resourceVersion": "5",
            **metadata,
        },
        "spec": spec or {"model": {"id": "facebook/opt-125m"}},
    }


@pytest.mark.parametrize(
    "given", [None, body(deletionTimestamp="2026-11-21T00:00:00Z")], ids=["gone", "being deleted"]
)
async def test_what_is_gone_is_left_to_the_garbage_collector(given):
    reconciler, client, _ = make(given)
    outcome = await reconciler.reconcile(KEY)
    assert (outcome.requeue_after_seconds, client.statuses, client.events) == (None, [], [])


async def test_a_spec_that_cannot_be_read_is_said_once_with_every_field():
    reconciler, client, _store = make(body({"model": {"id": "../x"}, "replicas": "many"}))
    await reconciler.reconcile(KEY)
    await reconciler.reconcile(KEY)
    (status,) = client.statuses
    found = {one["type"]: (one["status"], one["reason"]) for one in status["conditions"]}
    assert found == {
        "Sized": ("False", "InvalidSpec"),
        "Ready": ("False", "InvalidSpec"),
        "Stalled": ("True", "InvalidSpec"),
    }
    message = status["conditions"][0]["message"]
    assert ("spec.model.id" in message, "spec.replicas" in message) == (True, True)
    assert message.endswith("correct the spec, or delete the ModelDeployment.")
    assert (status["observedGeneration"], len(client.events)) == (2, 1)


async def test_a_condition_keeps_the_time_at_which_it_flipped():
    since = "2026-01-01T00:00:00Z"
    known = Condition(
        type="Ready",
        status="False",
        reason="Waiting",
        message="m",
        observed_generation=1,
        last_transition_time=since,
    )
    given = body({"model": {}})
    given["status"] = {"conditions": [known.to_json()], "url": "http://kept"}
    reconciler, client, _ = make(given)
    await reconciler.reconcile(KEY)
    times = {one["type"]: one["lastTransitionTime"] for one in client.statuses[0]["conditions"]}
    assert (since, "2026-11-21T12:00:00Z") == (times["Ready"], times["Stalled"])
    assert client.statuses[0]["url"] == "http://kept"


@pytest.mark.parametrize("reason", [Reason.SECRET_NOT_FOUND, Reason.SECRET_NOT_USABLE])
async def test_a_secret_is_looked_for_again_soon(reason):
    reconciler, _, _ = make(body(), reason=reason)
    outcome = await reconciler.reconcile(KEY)
    assert (reason, True) == (outcome.waits_for, outcome.requeue_after_seconds <= POLL_SECONDS)


async def test_what_the_user_names_and_is_not_there_is_looked_for_again_soon():
    spec = {"model": {"id": "facebook/opt-125m"}, "storage": {"existingClaim": "models"}}
    reconciler, client, _ = make(body(spec), reason=Reason.QUOTA_EXCEEDED)
    outcome = await reconciler.reconcile(KEY)
    assert client.asked == [("PersistentVolumeClaim", "models")]
    assert outcome.requeue_after_seconds <= POLL_SECONDS


async def test_a_status_of_another_version_does_not_stop_the_reconcile():
    given = body()
    given["status"] = {"plan": "something else", "unheard": True}
    reconciler, client, _ = make(given)
    await reconciler.reconcile(KEY)
    assert len(client.statuses) == 1


async def test_an_object_that_is_gone_when_it_is_read_anew_is_known_to_be_gone():
    reconciler, _, store = make(body())
    await reconciler.read_anew(KEY)
    assert store.get(MODEL_DEPLOYMENT, "n", "m") is None
