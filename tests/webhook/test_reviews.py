"""The two reviews without a cluster: what is refused, what is only warned of, and what never hangs."""

from __future__ import annotations

import asyncio
import copy

import pytest

from plimsoll.cluster.errors import UnreachableError
from plimsoll.hub.errors import problem
from plimsoll.manifests.context import Settings
from plimsoll.reconcile.sources import HubFailureKind
from plimsoll.sandbox.nodes import load_nodes
from plimsoll.webhook import facts as facts_module
from plimsoll.webhook.cached import FRESH_SECONDS, CachedReads
from plimsoll.webhook.handlers import error_text
from plimsoll.webhook.modeldeployments import ModelDeploymentReview, cut
from plimsoll.webhook.pods import PodReview


class Hub:
    """Knows nothing, or never answers."""

    def __init__(self, *, hangs=False):
        self.hangs = hangs
        self.asked = []

    async def fetch(self, model_id, revision, token=None):
        self.asked.append((model_id, revision, token))
        if self.hangs:
            await asyncio.Event().wait()
        raise problem(HubFailureKind.NOT_FOUND, f"there is no {model_id}; check the name.")


class Reads:
    def __init__(self, *, away=False):
        self.away = away

    async def nodes(self):
        return self._answer([{**node, "status": ready(node)} for node in load_nodes()])

    async def quotas(self, namespace):
        return self._answer([])

    async def limit_ranges(self, namespace):
        return self._answer([])

    def _answer(self, value):
        if self.away:
            raise UnreachableError("the API server is away")
        return value


def ready(node):
    return {**node.get("status", {}), "conditions": [{"type": "Ready", "status": "True"}]}


def review_of(hub=None, reads=None):
    return ModelDeploymentReview(reads=reads or Reads(), hub=hub or Hub(), settings=Settings())


def body(model="mistralai/Mistral-7B-Instruct-v0.3", **spec):
    return {
        "apiVersion": "plimsoll.dev/v1alpha1",
        "kind": "ModelDeployment",
        "metadata": {"name": "m", "namespace": "n", "uid": "u", "generation": 1},
        "spec": {"model": {"id": model}, **spec},
    }


class TestModelDeployments:
    async def test_a_model_of_the_catalogue_needs_no_hub(self):
        hub = Hub()
        verdict = await review_of(hub).review(body(hardware={"gpu": {"product": "A10"}}), None)
        assert (verdict.errors, hub.asked) == ((), [])
        assert verdict.warnings[0].startswith("plan: 1 x NVIDIA-A10")

    async def test_no_token_is_ever_sent(self):
        hub = Hub()
        secret = {"name": "hf", "key": "token"}
        given = body()
        given["spec"]["model"] = {"id": "some/gated", "tokenSecretRef": secret}
        await review_of(hub).review(given, None)
        assert hub.asked == [("some/gated", "main", None)]

    async def test_everything_that_the_types_refuse_is_told_with_its_path(self):
        spec = {"model": {"id": "../x", "colour": "red"}, "replicas": -1}
        verdict = await review_of().review({**body(), "spec": spec}, None)
        assert {"spec.model.id", "spec.model.colour", "spec.replicas"} == {
            error.split(" ", 1)[0].rstrip(":") for error in verdict.errors
        }

    async def test_every_problem_of_the_rules_is_told(self):
        engine = {"vllm": {"extraArgs": ["--tensor-parallel-size=2", "--model", "x"]}}
        verdict = await review_of().review(body(engine=engine), None)
        assert len(verdict.errors) >= 2

    async def test_what_does_not_divide_the_model_is_refused(self):
        verdict = await review_of().review(body(parallelism={"tensorParallelSize": 3}), None)
        assert (len(verdict.errors), verdict.warnings) == (1, ())

    @pytest.mark.parametrize(
        ("given", "says"),
        [
            (body("deepseek-ai/DeepSeek-V3", hardware={"gpu": {"product": "L4"}}), "not served:"),
            (body("nobody/nothing"), "not sized yet: there is no nobody/nothing"),
            (body(hardware={"gpu": {"product": "NVIDIA-Unheard-Of"}}), "not served:"),
        ],
        ids=["too large", "unknown to the Hub", "no such card"],
    )
    async def test_what_depends_on_cluster_or_hub_is_a_warning(self, given, says):
        verdict = await review_of().review(given, None)
        assert (verdict.errors, verdict.warnings[0].startswith(says)) == ((), True), verdict

    async def test_a_hub_that_does_not_answer_does_not_hold_anybody_up(self, monkeypatch):
        monkeypatch.setattr(facts_module, "HUB_SECONDS", 0.01)
        verdict = await asyncio.wait_for(review_of(Hub(hangs=True)).review(body("some/model"), None), 5)
        assert "has not answered about some/model" in verdict.warnings[0]

    async def test_an_api_server_that_does_not_answer_does_not_refuse(self):
        verdict = await review_of(reads=Reads(away=True)).review(body(), None)
        assert (verdict.errors, "the API server is away" in verdict.warnings[0]) == ((), True)

    async def test_an_update_that_changes_no_spec_is_let_through_whatever_stands_in_it(self):
        broken = body(replicas=-1)
        changed = copy.deepcopy(broken)
        changed["metadata"]["finalizers"] = []
        verdict = await review_of().review(changed, broken)
        assert (verdict.errors, verdict.warnings) == ((), ())

    async def test_what_is_being_deleted_is_let_go(self):
        going = body(replicas=-1)
        going["metadata"]["deletionTimestamp"] = "2026-11-21T00:00:00Z"
        assert (await review_of().review(going, body())).errors == ()

    def test_several_errors_stand_each_on_its_line(self):
        assert error_text(("a", "b")) == "2 errors:\n- a\n- b"
        assert error_text(("a",)) == "a"

    def test_a_warning_is_one_line_of_at_most_240_characters(self):
        assert (cut("a\n b"), len(cut("x" * 1000))) == ("a b", 240)


def pod(labels=None, annotations=None, **spec):
    return {
        "metadata": {
            "labels": {"plimsoll.dev/component": "server"} if labels is None else labels,
            "annotations": {"plimsoll.dev/model-bytes": "14G"} if annotations is None else annotations,
        },
        "spec": {"containers": [{"name": "engine", **spec}]},
    }


GPUS = {"limits": {"nvidia.com/gpu": "2"}}


class TestPods:
    async def review(self, given, hub=None, reads=None):
        return await PodReview(reads=reads or Reads(), hub=hub or Hub()).review(given, "n")

    async def test_more_gpus_mean_more_workers_and_more_memory(self):
        one = await self.review(pod(resources={"limits": {"nvidia.com/gpu": "1"}}))
        two = await self.review(pod(resources=GPUS))
        memory = [
            found.pod["spec"]["containers"][0]["resources"]["requests"]["memory"] for found in (one, two)
        ]
        assert memory == ["12Gi", "20Gi"]

    async def test_without_a_gpu_weights_and_cache_stand_in_memory(self):
        space = [{"name": "VLLM_CPU_KVCACHE_SPACE", "value": "40"}]
        small = await self.review(pod())
        large = await self.review(pod(env=space))
        requests = [
            found.pod["spec"]["containers"][0]["resources"]["requests"]["memory"] for found in (small, large)
        ]
        assert int(requests[1][:-2]) - int(requests[0][:-2]) == 36

    @pytest.mark.parametrize(
        ("given", "more_gib"),
        [
            pytest.param({"args": ["--kv-cache-memory-bytes", str(40 * 2**30)]}, 36, id="two words"),
            pytest.param({"command": ["vllm", f"--kv-cache-memory-bytes={40 * 2**30}"]}, 36, id="one word"),
            pytest.param({"args": ["--kv-cache-memory-bytes", "many"]}, 0, id="no number"),
            pytest.param({"args": ["--kv-cache-memory-bytes"]}, 0, id="no value"),
        ],
    )
    async def test_without_a_gpu_a_given_cache_stands_in_memory(self, given, more_gib):
        small = await self.review(pod())
        large = await self.review(pod(**given))
        requests = [
            found.pod["spec"]["containers"][0]["resources"]["requests"]["memory"] for found in (small, large)
        ]
        assert int(requests[1][:-2]) - int(requests[0][:-2]) == more_gib

    async def test_a_model_id_that_is_a_path_of_this_machine_is_not_looked_at(self, tmp_path):
        (tmp_path / "config.json").write_text("{}")
        hub = Hub()
        await self.review(pod(annotations={"plimsoll.dev/model": str(tmp_path)}), hub)
        assert [(str(tmp_path), "main", None)] == hub.asked

    async def test_a_hub_that_does_not_answer_fills_in_what_an_unknown_model_gets(self, monkeypatch):
        monkeypatch.setattr(facts_module, "HUB_SECONDS", 0.01)
        given = pod(annotations={"plimsoll.dev/model": "some/model"}, resources=GPUS)
        found = await asyncio.wait_for(self.review(given, Hub(hangs=True)), 5)
        assert found.pod is not None
        assert "filled in as for a model of unknown size" in found.warnings[0]

    async def test_limit_ranges_that_cannot_be_read_are_said(self):
        found = await self.review(pod(resources=GPUS), reads=Reads(away=True))
        assert (found.pod is not None, "limit ranges are not known" in found.warnings[0]) == (True, True)

    @pytest.mark.parametrize(
        "given",
        [
            {},
            {"metadata": None, "spec": None},
            pod(resources={"limits": {"nvidia.com/gpu": "many"}}),
            pod(env=None),
        ],
        ids=["empty", "nulls", "no quantity", "no list"],
    )
    async def test_nothing_that_a_pod_may_hold_ends_in_a_trace(self, given):
        await self.review(given)


class Client:
    def __init__(self):
        self.lists = 0

    async def list(self, kind, namespace=None):
        self.lists += 1
        await asyncio.sleep(0)
        return type("Listed", (), {"items": ({"kind": kind.kind},)})


class TestCachedReads:
    async def test_a_burst_costs_one_request(self):
        client = Client()
        reads = CachedReads(client)
        await asyncio.gather(*(reads.quotas("n") for _ in range(50)))
        assert client.lists == 1

    async def test_an_old_list_is_read_again_and_namespaces_stay_apart(self):
        client, now = Client(), [0.0]
        reads = CachedReads(client, clock=lambda: now[0])
        await reads.quotas("a")
        await reads.quotas("b")
        now[0] = FRESH_SECONDS
        await reads.quotas("a")
        assert client.lists == 3

    async def test_many_namespaces_do_not_fill_the_memory(self):
        client, now = Client(), [0.0]
        reads = CachedReads(client, clock=lambda: now[0])
        for number in range(2000):
            now[0] += 1.0
            await reads.quotas(f"n{number}")
        assert max(len(reads._lists), len(reads._locks)) <= 257
