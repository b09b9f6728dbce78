"""The cluster client against a real API server: what an emulator would not show."""

from __future__ import annotations

import asyncio

import pytest

from plimsoll.cluster.apply import Applier, ForeignObjectError
from plimsoll.cluster.client import ClusterClient
from plimsoll.cluster.connection import NoConnectionError, bearer_token, load_configuration
from plimsoll.cluster.errors import ConflictError, ForbiddenError, NotFoundError, RejectedError
from plimsoll.cluster.kinds import CONFIG_MAP, EVENT, JOB, MODEL_DEPLOYMENT, SECRET, SERVICE
from plimsoll.cluster.store import Store
from plimsoll.manifests import labels


class Counted:
    """Counts requests by verb."""

    def __init__(self):
        self.requests = []

    def api_request(self, verb, kind, status, seconds):
        self.requests.append((verb, kind, status))

    def num(self, verb):
        return sum(1 for one in self.requests if one[0] == verb)


@pytest.fixture
def counted():
    return Counted()


@pytest.fixture
async def client(control_plane, counted):
    configuration = await load_configuration(control_plane.kubeconfig)
    async with ClusterClient(configuration, log=counted) as client:
        yield client


def config_map(namespace, name="settings", *, data=None, uid="11111111-1111-1111-1111-111111111111"):
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": name,
            "namespace": namespace,
            "labels": {labels.MODEL_DEPLOYMENT: "owner"},
            "ownerReferences": [
                {
                    "apiVersion": "plimsoll.dev/v1alpha1",
                    "kind": "ModelDeployment",
                    "name": "owner",
                    "uid": uid,
                    "controller": True,
                }
            ]
            if uid
            else [],
        },
        "data": data or {"key": "value"},
    }


def service(namespace, revision):
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "front", "namespace": namespace, "labels": {labels.MODEL_DEPLOYMENT: "owner"}},
        "spec": {"selector": {labels.REVISION: revision}, "ports": [{"name": "http", "port": 8000}]},
    }


class TestApplying:
    async def test_a_manifest_that_stands_as_it_was_applied_is_not_sent_again(
        self, client, counted, namespace
    ):
        applier = Applier(client, Store())
        first = await applier.apply(service(namespace, "a"))
        again = await applier.apply(service(namespace, "a"))
        assert (first, again, counted.num("apply")) == (True, False, 1)

    async def test_a_changed_manifest_is_sent_and_arrives(self, client, namespace):
        applier = Applier(client, Store())
        await applier.apply(service(namespace, "a"))
        await applier.apply(service(namespace, "b"))
        live = await client.get(SERVICE, "front", namespace)
        assert live["spec"]["selector"] == {labels.REVISION: "b"}

    async def test_a_field_that_somebody_edited_is_taken_back(self, client, kubectl, namespace):
        store = Store()
        applier = Applier(client, store)
        await applier.apply(service(namespace, "a"))
        patch = f'{{"spec":{{"selector":{{"{labels.REVISION}":"mine"}}}}}}'
        kubectl("patch", "service", "front", "-n", namespace, "--type=merge", "-p", patch)
        store.put(SERVICE, await client.get(SERVICE, "front", namespace))
        assert await applier.apply(service(namespace, "a"))
        live = await client.get(SERVICE, "front", namespace)
        assert live["spec"]["selector"] == {labels.REVISION: "a"}

    async def test_a_field_that_is_not_ours_stays_and_costs_no_write(self, client, kubectl, namespace):
        store = Store()
        applier = Applier(client, store)
        await applier.apply(service(namespace, "a"))
        kubectl("annotate", "service", "front", "-n", namespace, "team=blue")
        store.put(SERVICE, await client.get(SERVICE, "front", namespace))
        assert not await applier.apply(service(namespace, "a"))
        live = await client.get(SERVICE, "front", namespace)
        assert live["metadata"]["annotations"]["team"] == "blue"

    async def test_a_deleted_child_is_made_anew(self, client, namespace):
        store = Store()
        applier = Applier(client, store)
        await applier.apply(config_map(namespace))
        live = store.get(CONFIG_MAP, namespace, "settings")
        await client.delete(
            CONFIG_MAP, "settings", namespace, {"preconditions": {"uid": live["metadata"]["uid"]}}
        )
        store.remove(CONFIG_MAP, live)
        assert await applier.apply(config_map(namespace))

    async def test_somebody_elses_object_is_not_taken_over(self, client, kubectl, namespace):
        kubectl("create", "configmap", "settings", "-n", namespace, "--from-literal=key=theirs")
        with pytest.raises(ForeignObjectError) as caught:
            await Applier(client, Store()).apply(config_map(namespace))
        live = await client.get(CONFIG_MAP, "settings", namespace)
        assert live["data"] == {"key": "theirs"}
        assert f"ConfigMap {namespace}/settings exists and is not this ModelDeployment's" in str(caught.value)

    async def test_what_is_left_of_an_earlier_object_of_the_name_is_waited_for(self, client, namespace):
        await Applier(client, Store()).apply(
            config_map(namespace, uid="22222222-2222-2222-2222-222222222222")
        )
        with pytest.raises(ForeignObjectError):
            await Applier(client, Store()).apply(config_map(namespace))

    async def test_a_retained_object_without_owner_is_taken_up_by_its_label(self, client, namespace):
        await Applier(client, Store()).apply(config_map(namespace, uid=None))
        assert await Applier(client, Store()).apply(config_map(namespace))

    async def test_a_job_that_cannot_be_changed_is_left_as_it_is_and_not_tried_twice(
        self, client, counted, namespace
    ):
        store = Store()
        applier = Applier(client, store)
        await applier.apply(job(namespace, "one"))
        await applier.apply(job(namespace, "two"))
        await applier.apply(job(namespace, "two"))
        live = await client.get(JOB, "work", namespace)
        assert live["spec"]["template"]["spec"]["containers"][0]["image"] == "one"
        assert counted.num("apply") == 2


def job(namespace, image):
    pod = {"restartPolicy": "Never", "containers": [{"name": "main", "image": image}]}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": "work", "namespace": namespace, "labels": {labels.MODEL_DEPLOYMENT: "owner"}},
        "spec": {"suspend": True, "template": {"spec": pod}},
    }


class TestAnswers:
    async def test_what_is_not_there_is_not_found(self, client, namespace):
        with pytest.raises(NotFoundError, match=f"cannot read Service {namespace}/nothing"):
            await client.get(SERVICE, "nothing", namespace)

    async def test_what_the_schema_refuses_is_rejected_with_the_servers_words(self, client, namespace):
        bad = service(namespace, "a")
        bad["spec"]["ports"][0]["port"] = 99999
        with pytest.raises(RejectedError, match="between 1 and 65535"):
            await client.apply(SERVICE, bad)

    async def test_a_deletion_of_another_incarnation_is_a_conflict(self, client, namespace):
        await client.apply(CONFIG_MAP, config_map(namespace))
        options = {"preconditions": {"uid": "99999999-9999-9999-9999-999999999999"}}
        with pytest.raises(ConflictError):
            await client.delete(CONFIG_MAP, "settings", namespace, options)

    async def test_a_wrong_token_is_forbidden_and_does_not_stand_in_the_sentence(
        self, control_plane, tmp_path
    ):
        path = control_plane.kubeconfig_with_token(tmp_path / "config", "wrong-token")
        async with ClusterClient(await load_configuration(path)) as stranger:
            with pytest.raises(ForbiddenError) as caught:
                await stranger.list(SERVICE)
        assert "wrong-token" not in str(caught.value)

    async def test_lists_come_whole_whatever_the_page_with_their_kinds(self, client, namespace, monkeypatch):
        monkeypatch.setattr("plimsoll.cluster.client._PAGE_SIZE", 3)
        for number in range(8):
            await client.apply(CONFIG_MAP, config_map(namespace, f"number-{number}"))
        listed = await client.list(CONFIG_MAP, namespace, label_selector=f"{labels.MODEL_DEPLOYMENT}=owner")
        assert [f"number-{number}" for number in range(8)] == [
            one["metadata"]["name"] for one in listed.items
        ]
        assert {"ConfigMap"} == {one["kind"] for one in listed.items}
        assert listed.resource_version.isdigit()

    async def test_metadata_of_a_secret_comes_without_its_data(self, client, kubectl, namespace):
        kubectl("create", "secret", "generic", "token", "-n", namespace, "--from-literal=key=hf_secret")
        found = await client.get_metadata(SECRET, "token", namespace)
        assert found["kind"] == "PartialObjectMetadata"
        assert "data" not in found

    async def test_many_at_a_time_all_get_an_answer(self, client, namespace):
        manifests = [config_map(namespace, f"number-{number}") for number in range(60)]
        await asyncio.gather(*(client.apply(CONFIG_MAP, manifest) for manifest in manifests))
        assert (
            len((await client.list(CONFIG_MAP, namespace, label_selector=labels.MODEL_DEPLOYMENT)).items)
            == 60
        )


class TestStatus:
    async def test_a_status_is_replaced_whole_and_leaves_the_spec_alone(self, client, kubectl, namespace):
        body = await self.created(client, kubectl, namespace)
        condition = {
            "type": "Ready",
            "status": "False",
            "reason": "Waiting",
            "message": "m",
            "observedGeneration": 1,
            "lastTransitionTime": "2026-11-21T00:00:00Z",
        }
        first = {"url": "http://somewhere", "conditions": [condition]}
        written = await client.write_status(MODEL_DEPLOYMENT, {**body, "status": first})
        again = await client.write_status(MODEL_DEPLOYMENT, {**written, "status": {"observedGeneration": 1}})
        assert again["status"] == {"observedGeneration": 1}
        assert body["spec"] == again["spec"]
        assert again["metadata"]["generation"] == 1

    async def test_a_status_made_from_an_older_state_is_a_conflict(self, client, kubectl, namespace):
        body = await self.created(client, kubectl, namespace)
        kubectl("annotate", "modeldeployments.plimsoll.dev", "m", "-n", namespace, "a=b")
        with pytest.raises(ConflictError):
            await client.write_status(MODEL_DEPLOYMENT, {**body, "status": {"observedGeneration": 1}})

    async def created(self, client, kubectl, namespace):
        manifest = {
            "apiVersion": "plimsoll.dev/v1alpha1",
            "kind": "ModelDeployment",
            "metadata": {"name": "m", "namespace": namespace},
            "spec": {"model": {"id": "facebook/opt-125m"}},
        }
        return await client.create(MODEL_DEPLOYMENT, manifest)


class TestEvents:
    async def test_an_event_is_accepted_and_kubectl_shows_it(self, client, kubectl, namespace):
        from plimsoll.controller.executor import Executor
        from plimsoll.reconcile.decision import Event

        executor = Executor(client=client, store=Store(), applier=None, metrics=None, identity="me")
        name = "m" * 253
        body = {"metadata": {"name": name, "uid": "33333333-3333-3333-3333-333333333333"}}
        await executor.post(namespace, body, Event(type="Warning", reason="TestFailed", message="x" * 2000))
        await executor.post(namespace, body, Event(type="Warning", reason="TestFailed", message="y"))
        found = (await client.list(EVENT, namespace)).items
        assert sorted(len(one["note"]) for one in found) == [1, 1024]
        assert "TestFailed" in kubectl("get", "events", "-n", namespace).stdout


class TestConnection:
    async def test_a_file_that_does_not_exist_is_named(self, tmp_path):
        with pytest.raises(NoConnectionError, match="there is no such file"):
            await load_configuration(tmp_path / "nothing")

    @pytest.mark.parametrize("text", ["", "[]", "not: [yaml", "apiVersion: v1\nkind: Config\n"])
    async def test_a_file_that_says_nothing_usable_is_named(self, tmp_path, text):
        path = tmp_path / "config"
        path.write_text(text)
        with pytest.raises(NoConnectionError, match="--kubeconfig"):
            await load_configuration(path)

    async def test_outside_a_pod_and_without_a_file_it_says_what_to_give(self, monkeypatch):
        monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
        with pytest.raises(NoConnectionError, match="give --kubeconfig FILE"):
            await load_configuration(None)

    async def test_the_token_of_a_kubeconfig_is_found(self, control_plane, tmp_path):
        path = control_plane.kubeconfig_with_token(tmp_path / "config", "some-token")
        assert await bearer_token(await load_configuration(path)) == ("Bearer", "some-token")
