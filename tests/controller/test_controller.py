"""The loop around `reconcile`: what wakes which key, what a failure does, and when the process counts as stuck."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from plimsoll.api.conditions import Reason
from plimsoll.cluster.client import ObjectList
from plimsoll.cluster.errors import ConflictError, NotFoundError, RejectedError, UnreachableError
from plimsoll.cluster.kinds import CONFIG_MAP, DEPLOYMENT, MODEL_DEPLOYMENT, NODE, POD, RESOURCE_QUOTA
from plimsoll.cluster.store import Store
from plimsoll.controller import controller as module
from plimsoll.controller.controller import Controller
from plimsoll.controller.keys import CANARY, Key
from plimsoll.controller.metrics import Metrics
from plimsoll.controller.options import OperatorOptions
from plimsoll.controller.reconciler import Outcome
from plimsoll.manifests import labels
from plimsoll.manifests.context import Settings
from plimsoll.manifests.names import label_value

OPTIONS = OperatorOptions(settings=Settings(), lease_namespace="n", num_workers=2)
KEY = Key("n", "m")


def item(name="m", *, version=1, namespace="n", owner=None, **more):
    metadata = {"name": name, "namespace": namespace, "resourceVersion": str(version)}
    if owner:
        metadata["labels"] = {labels.MODEL_DEPLOYMENT: label_value(owner)}
    return {"metadata": metadata, **more}


class Reconciler:
    """Plays the reconciler: one answer after the other, the last one for ever."""

    def __init__(self, *answers):
        self.answers = list(answers) or [Outcome()]
        self.runs = []
        self.told = []
        self.read = []

    async def reconcile(self, key):
        self.runs.append(key)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def tell_user(self, key, sentence):
        self.told.append((key, sentence))

    async def read_anew(self, key):
        self.read.append(key)


class Applier:
    def __init__(self):
        self.forgotten = []

    def forget(self, kind, namespace, name):
        self.forgotten.append((kind.kind, namespace, name))


class Lists:
    """Plays the client's `list`."""

    def __init__(self, answers=None):
        self.answers = answers or {}
        self.failures = []

    async def list(self, kind, namespace=None, *, label_selector=None):
        if self.failures:
            raise self.failures.pop(0)
        return ObjectList(tuple(self.answers.get(kind, ())), "100")


def make(*answers, client=None, options=OPTIONS, clock=lambda: 0.0):
    reconciler, applier = Reconciler(*answers), Applier()
    controller = Controller(
        client=client or Lists(),
        store=Store(),
        reconciler=reconciler,
        applier=applier,
        metrics=Metrics(),
        options=options,
        clock=clock,
    )
    return controller, reconciler, applier


def waiting(controller):
    """The keys that wait to be run now."""
    return list(controller.queue._waiting)


async def run_all(controller):
    """Run what waits, and nothing that is delayed."""
    worker = asyncio.create_task(controller.work())
    await asyncio.wait_for(controller.queue.join(), 2)
    worker.cancel()
    await asyncio.gather(worker, return_exceptions=True)


class TestWaking:
    async def test_a_model_deployment_wakes_itself(self):
        controller, _, _ = make()
        controller.saw(MODEL_DEPLOYMENT, item(), False)
        assert waiting(controller) == [KEY]

    async def test_the_echo_of_our_own_status_wakes_nobody(self):
        controller, _, _ = make()
        controller.saw(MODEL_DEPLOYMENT, item(), False)
        await run_all(controller)
        controller.saw(MODEL_DEPLOYMENT, item(), False)
        assert waiting(controller) == []

    @pytest.mark.parametrize("name", ["m", "m." + "x" * 250])
    async def test_a_child_wakes_its_owner_whatever_the_length_of_its_name(self, name):
        controller, _, _ = make()
        controller.saw(MODEL_DEPLOYMENT, item(name), False)
        await run_all(controller)
        controller.saw(POD, item("p", owner=name), False)
        assert [Key("n", name)] == waiting(controller)

    async def test_a_child_of_another_namespace_wakes_nobody(self):
        controller, _, _ = make()
        controller.saw(MODEL_DEPLOYMENT, item(), False)
        await run_all(controller)
        controller.saw(POD, item("p", namespace="other", owner="m"), False)
        assert waiting(controller) == []

    async def test_a_child_that_is_gone_wakes_its_owner_and_is_forgotten(self):
        controller, _, applier = make()
        controller.saw(MODEL_DEPLOYMENT, item(), False)
        controller.saw(DEPLOYMENT, item("s", owner="m"), False)
        await run_all(controller)
        controller.saw(DEPLOYMENT, item("s", owner="m", version=2), True)
        assert waiting(controller) == [KEY]
        assert applier.forgotten == [("Deployment", "n", "s")]

    async def test_a_quota_wakes_those_that_wait_for_one_and_no_other(self):
        controller, _, _ = make(Outcome(waits_for=Reason.QUOTA_EXCEEDED), Outcome())
        controller.saw(MODEL_DEPLOYMENT, item("a"), False)
        controller.saw(MODEL_DEPLOYMENT, item("b"), False)
        await run_all(controller)
        controller.saw(RESOURCE_QUOTA, item("q"), False)
        assert [Key("n", "a")] == waiting(controller)

    async def test_a_node_wakes_everybody_a_moment_later(self):
        controller, _, _ = make()
        controller.saw(MODEL_DEPLOYMENT, item(), False)
        await run_all(controller)
        node = {"metadata": {"name": "gpu-0", "resourceVersion": "1"}}
        controller.saw(NODE, node, False)
        assert (waiting(controller), controller.queue.num_delayed) == ([], 1)
        controller.queue.close()


class TestOutcomes:
    async def test_a_pass_that_applied_something_is_followed_by_another(self):
        controller, reconciler, _ = make(Outcome(applied=True), Outcome())
        controller.saw(MODEL_DEPLOYMENT, item(), False)
        await run_all(controller)
        assert reconciler.runs == [KEY, KEY]

    async def test_a_wait_is_a_wait(self):
        controller, reconciler, _ = make(Outcome(requeue_after_seconds=60))
        controller.saw(MODEL_DEPLOYMENT, item(), False)
        await run_all(controller)
        assert (reconciler.runs, controller.queue.num_delayed) == ([KEY], 1)
        controller.queue.close()

    async def test_a_conflict_reads_anew_and_tells_nobody(self):
        conflict = ConflictError("write", status=409, reason="Conflict", message="changed")
        controller, reconciler, _ = make(conflict, Outcome())
        controller.saw(MODEL_DEPLOYMENT, item(), False)
        await run_all(controller)
        assert (reconciler.read, reconciler.told) == ([KEY], [])
        controller.queue.close()

    async def test_a_refusal_is_told_once_however_often_it_is_tried(self):
        refusal = RejectedError("apply", status=422, reason="Invalid", message="no")
        controller, reconciler, _ = make(refusal)
        for version in (1, 2, 3):
            controller.saw(MODEL_DEPLOYMENT, item(version=version, spec=version), False)
            await run_all(controller)
        assert reconciler.told == [(KEY, "cannot apply: no (HTTP 422)")]
        assert (len(reconciler.runs), controller.queue.failures(KEY)) == (3, 3)
        controller.queue.close()

    async def test_a_bug_in_one_leaves_the_others_running(self, caplog):
        controller, reconciler, _ = make(KeyError("oops"), Outcome())
        controller.saw(MODEL_DEPLOYMENT, item("a"), False)
        controller.saw(MODEL_DEPLOYMENT, item("b"), False)
        await run_all(controller)
        assert [Key("n", "a"), Key("n", "b")] == reconciler.runs
        assert "KeyError" in caplog.text
        controller.queue.close()

    async def test_a_reconcile_that_hangs_gives_its_worker_back(self, monkeypatch):
        monkeypatch.setattr(module, "_RECONCILE_SECONDS", 0.01)
        controller, reconciler, _ = make()

        async def hang(key):
            await asyncio.Event().wait()

        reconciler.reconcile = hang
        controller.saw(MODEL_DEPLOYMENT, item(), False)
        await run_all(controller)
        assert controller.queue.failures(KEY) == 1
        controller.queue.close()


class TestFilling:
    async def test_everything_is_known_before_the_first_key_runs(self):
        client = Lists({MODEL_DEPLOYMENT: [item()], CONFIG_MAP: [item("c", owner="m")]})
        controller, _, _ = make(client=client)
        await controller.fill()
        assert waiting(controller) == [KEY]
        assert len(controller._store.children("n", "m")) == 1

    async def test_a_cluster_without_the_resource_is_waited_for_and_said_once(self, monkeypatch, caplog):
        monkeypatch.setattr(module, "_CRD_RETRY_SECONDS", 0)
        client = Lists()
        missing = NotFoundError("list", status=404, reason="NotFound", message="no")
        client.failures = [missing, missing, UnreachableError("away")]
        controller, _, _ = make(client=client)
        await asyncio.wait_for(controller.fill(), 2)
        assert caplog.text.count("install the CRD") == 1

    async def test_a_deletion_that_the_watch_lost_is_found_by_the_next_list(self):
        client = Lists({MODEL_DEPLOYMENT: [item()], CONFIG_MAP: [item("c", owner="m")]})
        controller, _, _ = make(client=client, options=replace(OPTIONS, relist_seconds=0.01))
        await controller.fill()
        await run_all(controller)
        client.answers[CONFIG_MAP] = []
        relist = asyncio.create_task(controller.relist())
        async with asyncio.timeout(2):
            while not waiting(controller):
                await asyncio.sleep(0.01)
        relist.cancel()
        assert waiting(controller) == [KEY]


class TestHealth:
    async def test_a_candidate_that_waits_for_the_lease_is_well(self):
        controller, _, _ = make(clock=lambda: 1e9)
        assert controller.problem() is None

    async def test_work_that_does_not_get_done_is_a_problem_until_it_does(self):
        now = [0.0]
        controller, _, _ = make(clock=lambda: now[0])
        await controller.fill()
        assert controller.problem() is None
        now[0] = 301.0
        assert controller.problem() == "no reconcile has got through for 301 s"
        controller.queue.add(CANARY)
        await run_all(controller)
        assert controller.problem() is None

    async def test_the_resync_looks_at_everybody_and_sends_the_canary(self):
        controller, _, _ = make(
            client=Lists({MODEL_DEPLOYMENT: [item()]}), options=replace(OPTIONS, resync_seconds=0.01)
        )
        await controller.fill()
        await run_all(controller)
        resync = asyncio.create_task(controller.resync())
        async with asyncio.timeout(2):
            while CANARY not in waiting(controller):
                await asyncio.sleep(0.01)
        resync.cancel()
        assert waiting(controller) == [KEY, CANARY]
