"""The whole chain on a real node: a real download, a real engine, a real suite, a real answer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from plimsoll.sandbox.hubstandin import GOOD_TOKEN
from plimsoll.sandbox.kubectl import Kubectl
from plimsoll.sandbox.processes import wait_until
from support import walkthrough
from support.on_node import condition, run_python, small_deployment, wait_for_condition, watching
from support.stand import Stand

_ROOT = Path(__file__).parents[2]
_KIND = "modeldeployments.plimsoll.dev"
_NAME = "chat"
_CHILDREN = "deployments,services,jobs,pods,configmaps,persistentvolumeclaims"
_OURS = ("-l", "plimsoll.dev/model-deployment")
_ASK = """
import json, sys, time, urllib.error, urllib.request
body = json.loads(sys.argv[2])
request = urllib.request.Request(sys.argv[1], json.dumps(body).encode(), {"Content-Type": "application/json"})
deadline = time.monotonic() + 30
while True:
    try:
        print(urllib.request.urlopen(request, timeout=60).read().decode())
        break
    except urllib.error.HTTPError:
        raise
    except urllib.error.URLError:  # the node's rules follow the Service a moment later
        if time.monotonic() > deadline:
            raise
        time.sleep(0.5)
"""
_IMPOSSIBLE = {
    "promptfoo": {
        "tests": [
            {
                "description": "the impossible word",
                "vars": {"prompt": "Hello"},
                "assert": [{"type": "contains", "value": "Plimsoll line", "metric": "says-plimsoll"}],
            }
        ]
    }
}


@pytest.fixture(scope="module")
def watch_log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `kubectl get -w` printed on the way to Ready."""
    return tmp_path_factory.mktemp("watch") / "watch.log"


@pytest.fixture(scope="module")
def served(
    stand: Stand,
    kubectl: Kubectl,
    shared_namespace: str,
    pytestconfig: pytest.Config,
    watch_log: Path,
) -> dict[str, Any]:
    """A model that went the whole way, as it was when it became Ready."""
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "name": "hf-token",
            "namespace": shared_namespace,
            "labels": {"plimsoll.dev/hf-token": "true"},
        },
        "stringData": {"token": GOOD_TOKEN},
    }
    kubectl.apply([secret])
    applied = _deployment(shared_namespace)
    with watching(kubectl, watch_log, _KIND, "-n", shared_namespace):
        kubectl.apply([applied])
        found = wait_for_condition(stand, _NAME, shared_namespace, "Ready")
        wait_until(lambda: " True " in watch_log.read_text(), what="the watch's last line", seconds=30)
    if pytestconfig.getoption("--update-golden"):
        walkthrough.write(
            _ROOT / "docs" / "walkthrough.md",
            applied=applied,
            watched=watch_log.read_text(),
            final=kubectl("get", _KIND, _NAME, "-n", shared_namespace, "-o", "yaml").stdout,
            answer=json.dumps(_chat(stand, found), indent=1),
        )
    return found


def test_a_small_model_is_sized_downloaded_loaded_tested_and_available(served: dict[str, Any]) -> None:
    status = served["status"]

    assert {found["type"]: found["status"] for found in status["conditions"]} == dict.fromkeys(
        ("Sized", "Downloaded", "Loaded", "Tested", "Available", "Ready"), "True"
    )
    test = status["test"]
    assert (test["passed"], test["failed"], test["total"]) == (7, 0, 7)
    assert test["provenContext"] == status["plan"]["maxModelLen"] == 2048
    assert status["plan"]["commit"] == status["revision"]["resolved"]


@pytest.mark.usefixtures("served")
def test_no_failure_shows_on_the_way(watch_log: Path) -> None:
    seen = set(watch_log.read_text().split())

    assert {"Downloading", "Loading", "Testing"} <= seen
    assert {reason for reason in seen if reason.endswith(("Failed", "Error"))} == set()


def test_another_pod_chats_through_the_public_service(stand: Stand, served: dict[str, Any]) -> None:
    answer = _chat(stand, served)

    assert answer["model"] == "tiny/llama-chat"
    assert (answer["choices"][0]["finish_reason"], answer["usage"]["completion_tokens"]) == ("length", 8)


def test_a_killed_engine_comes_back(stand: Stand, kubectl: Kubectl, served: dict[str, Any]) -> None:
    namespace = served["metadata"]["namespace"]
    (pod,) = _server_pods(kubectl, namespace)
    kubectl("delete", "pod", pod["metadata"]["name"], "-n", namespace, "--grace-period=1", "--wait=false")
    wait_for_condition(stand, _NAME, namespace, "Ready", status="False")

    again = wait_for_condition(stand, _NAME, namespace, "Ready")

    assert again["status"]["revision"] == served["status"]["revision"]
    (successor,) = _server_pods(kubectl, namespace)
    assert successor["metadata"]["uid"] != pod["metadata"]["uid"]
    assert _chat(stand, served)["choices"][0]["finish_reason"] == "length"


def test_a_suite_that_must_fail_names_its_assertion_and_the_last_good_revision_answers_on(
    stand: Stand, kubectl: Kubectl, served: dict[str, Any]
) -> None:
    namespace = served["metadata"]["namespace"]
    kubectl.apply([_deployment(namespace, test=_IMPOSSIBLE)])

    found = wait_for_condition(stand, _NAME, namespace, "Tested", status="False", reason="TestFailed")

    assert "says-plimsoll" in condition(found, "Tested")["message"]
    assert condition(found, "Available")["status"] == "True"
    assert found["status"]["revision"]["lastGood"] == served["status"]["revision"]["hash"]
    assert _chat(stand, served)["choices"][0]["finish_reason"] == "length"


def test_the_pods_have_no_rights(kubectl: Kubectl, served: dict[str, Any]) -> None:
    namespace = served["metadata"]["namespace"]
    accounts = {pod["spec"]["serviceAccountName"] for pod in kubectl.items("pods", "-n", namespace, *_OURS)}
    asked = ("auth", "can-i", "get", "pods", "-n", namespace)

    assert accounts == {"default"}
    assert kubectl(*asked).stdout.strip() == "yes"  # as an administrator: the question can be answered so
    refused = kubectl(*asked, f"--as=system:serviceaccount:{namespace}:default", check=False)
    assert refused.stdout.strip() == "no"


def test_the_token_is_nowhere_but_in_its_secret(
    stand: Stand, kubectl: Kubectl, served: dict[str, Any]
) -> None:
    namespace = served["metadata"]["namespace"]
    kinds = f"modeldeployments.plimsoll.dev,replicasets,events,{_CHILDREN}"
    texts = {kinds: kubectl("get", kinds, "-n", namespace, "-o", "yaml").stdout}
    for pod in kubectl.items("pods", "-n", namespace):
        name = pod["metadata"]["name"]
        texts[f"log of {name}"] = kubectl("logs", name, "-n", namespace, check=False).stdout
    texts |= stand.logs()

    assert "hf-token" in texts[kinds]  # the name of the Secret, which shows that the search sees the children
    assert [where for where, text in texts.items() if GOOD_TOKEN in text] == []


def test_a_model_without_a_chat_template_is_tested_by_completions_and_deletion_leaves_nothing(
    stand: Stand, kubectl: Kubectl, namespace: str
) -> None:
    kubectl.apply([small_deployment("base", namespace, "tiny/llama-base")])
    found = wait_for_condition(stand, "base", namespace, "Ready")
    (job,) = (job for job in kubectl.items("jobs", "-n", namespace, "-l", "plimsoll.dev/component=test"))
    arguments = job["spec"]["template"]["spec"]["containers"][0]["args"]
    assert arguments[arguments.index("--api") + 1] == "completions"
    assert found["status"]["test"]["failed"] == 0

    kubectl("delete", "modeldeployments.plimsoll.dev", "base", "-n", namespace)

    wait_until(
        lambda: not kubectl.items(_CHILDREN, "-n", namespace, *_OURS),
        what="the end of every child",
        seconds=180,
        poll_seconds=0.5,
    )
    wait_until(
        lambda: (
            namespace
            not in {volume["spec"]["claimRef"]["namespace"] for volume in kubectl.items("persistentvolumes")}
        ),
        what="the end of the volume",
        seconds=180,
        poll_seconds=0.5,
    )


def _deployment(namespace: str, **spec: Any) -> dict[str, Any]:
    model = {"id": "tiny/llama-chat", "tokenSecretRef": {"name": "hf-token", "key": "token"}}
    return small_deployment(_NAME, namespace, "tiny/llama-chat", model=model, **spec)


def _server_pods(kubectl: Kubectl, namespace: str) -> tuple[dict[str, Any], ...]:
    pods = kubectl.items("pods", "-n", namespace, "-l", "plimsoll.dev/component=server")
    return tuple(pod for pod in pods if "deletionTimestamp" not in pod["metadata"])


def _chat(stand: Stand, served: dict[str, Any]) -> Any:
    body = {
        "model": "tiny/llama-chat",
        "messages": [{"role": "user", "content": "Hello"}],
        "max_tokens": 8,
        "min_tokens": 8,
    }
    url = f"{served['status']['url']}/chat/completions"
    return json.loads(run_python(stand, served["metadata"]["namespace"], _ASK, url, json.dumps(body)))
