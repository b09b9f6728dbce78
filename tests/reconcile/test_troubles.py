"""What goes wrong with pods and Jobs, in words: a condition, its reason, and the way out at the end."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from lives import download, engine, settled, suite_test
from parts import MODEL, START, UNSCHEDULABLE, test_message
from world import Script, World

from plimsoll.api.conditions import Reason
from plimsoll.manifests import labels
from plimsoll.reconcile.observed import Identity, Pod
from plimsoll.reconcile.quoting import quote
from plimsoll.reconcile.reports import DownloadReport, Progress, TestReport, write
from plimsoll.reconcile.words import PodWords, trouble_of

Json = dict[str, Any]


REPORTED = write(DownloadReport(bytes=1, files=1, commit="c", error="The Hub refuses the token; replace it"))
FULL = write(
    DownloadReport(
        bytes=1,
        files=0,
        commit="c",
        error="/models is full (No space left on device): make the volume larger (storage.size).",
    )
)
ERRORED = write(
    TestReport(
        passed=0, failed=0, errors=5, total=5, error="promptfoo could not read its suite; correct the YAML"
    )
)


@pytest.mark.parametrize(
    ("script", "condition", "expected", "summary", "words"),
    [
        pytest.param(
            engine("crash"),
            "Loaded",
            "EngineFailed",
            "Stalled",
            ["ended with exit code 1, saying: KV cache is too small", "kubectl logs"],
            id="engine crashes",
        ),
        pytest.param(
            engine("oom"),
            "Loaded",
            "HostOutOfMemory",
            "Stalled",
            ["OOMKilled", "raise resources.server.limits.memory."],
            id="engine runs out of memory",
        ),
        pytest.param(
            engine("pull"),
            "Loaded",
            "ImagePullFailed",
            "Reconciling",
            ["nowhere/vllm:v9", "check engine.image and pod.imagePullSecrets"],
            id="engine's image is not there",
        ),
        pytest.param(
            engine("secret"),
            "Loaded",
            "SecretNotFound",
            "Reconciling",
            ['secret "key" not found', "create it, and the pod goes on."],
            id="api key's Secret is not there",
        ),
        pytest.param(
            engine("unschedulable"),
            "Loaded",
            "Unschedulable",
            "Reconciling",
            [
                UNSCHEDULABLE,
                "A replica needs 1 x NVIDIA-A10, 2 CPU, 8Gi of memory free on one node.",
                "5 nodes lack a free nvidia.com/gpu: free it there",
                "or add a node.",
            ],
            id="engine finds no node",
        ),
        pytest.param(
            engine("loading"),
            "Loaded",
            "Loading",
            "Reconciling",
            ["loads the model; wait"],
            id="engine loads",
        ),
        pytest.param(
            download("run"),
            "Downloaded",
            "Downloading",
            "Reconciling",
            ["watch status.download."],
            id="download runs",
        ),
        pytest.param(
            download("pull"),
            "Downloaded",
            "ImagePullFailed",
            "Reconciling",
            ["image cannot be pulled", "the operator's image"],
            id="download's image is not there",
        ),
        pytest.param(
            download(f"fail:1:{REPORTED}"),
            "Downloaded",
            "DownloadFailed",
            "Stalled",
            ["The Hub refuses the token; replace it.", "plimsoll.dev/replan"],
            id="download is refused",
        ),
        pytest.param(
            download(f"fail:1:{FULL}"),
            "Downloaded",
            "VolumeFull",
            "Stalled",
            ["make the volume larger (storage.size)", "plimsoll.dev/replan"],
            id="the volume is full",
        ),
        pytest.param(
            download("fail:137:"),
            "Downloaded",
            "DownloadFailed",
            "Stalled",
            ["exit code 137 (killed from outside)", "plimsoll.dev/replan"],
            id="download is killed",
        ),
        pytest.param(
            download("unschedulable"),
            "Downloaded",
            "Unschedulable",
            "Reconciling",
            [UNSCHEDULABLE],
            id="download finds no node",
        ),
        pytest.param(
            Script(download=lambda _: "no-volume", volume="Pending"),
            "Downloaded",
            "VolumePending",
            "Reconciling",
            ["mistral-7b-model has no volume yet", "unbound immediate", "storage.storageClassName"],
            id="volume stays pending",
        ),
        pytest.param(
            Script(volume="Lost"),
            "Downloaded",
            "VolumePending",
            "Reconciling",
            ["lost its volume", "delete the claim"],
            id="volume is lost",
        ),
        pytest.param(
            suite_test("run"),
            "Tested",
            "Testing",
            "Reconciling",
            ["wait for its Job to end."],
            id="test runs",
        ),
        pytest.param(
            suite_test(f"fail:100:{test_message(1)}"),
            "Tested",
            "TestFailed",
            "Stalled",
            ["1 of 5 assertions failed (not-empty in 'case 0')", "plimsoll.dev/replan"],
            id="an assertion fails",
        ),
        pytest.param(
            suite_test(f"fail:1:{ERRORED}"),
            "Tested",
            "TestError",
            "Stalled",
            ["promptfoo could not read its suite; correct the YAML.", "plimsoll.dev/replan"],
            id="the test breaks",
        ),
        pytest.param(
            suite_test("fail:1:Traceback"),
            "Tested",
            "TestError",
            "Stalled",
            ["exit code 1, saying: Traceback", "plimsoll.dev/replan"],
            id="the runner dies",
        ),
        pytest.param(
            suite_test("unschedulable"),
            "Tested",
            "Unschedulable",
            "Reconciling",
            [UNSCHEDULABLE],
            id="test has no node",
        ),
    ],
)
def test_a_trouble_has_its_condition_and_its_words(
    script: Script, condition: str, expected: str, summary: str, words: list[str]
) -> None:
    world = settled(script)

    assert world.summary()[condition] == f"False {expected}"
    assert world.summary()["Ready"] == f"False {expected}"
    assert world.condition(summary)["status"] == "True"
    message = world.condition(condition)["message"]
    assert [word for word in words if word not in message] == []
    assert world.condition("Ready")["message"] == message
    assert world.public_revision() is None


@pytest.mark.parametrize("first", ["crash", "oom", "pull", "secret", "unschedulable", "loading"])
def test_an_engine_that_recovers_becomes_ready(first: str) -> None:
    world = settled(engine(first))
    world.script = Script()
    world.settle()

    assert world.summary()["Ready"] == "True Serving"
    assert "Stalled" not in world.summary()


def test_a_ready_engine_that_crashes_takes_ready_and_available_away() -> None:
    world = settled()
    world.take_events()
    world.script = engine("oom")
    world.settle()

    assert world.summary()["Loaded"] == "False HostOutOfMemory"
    assert world.summary()["Tested"] == "True Passed"
    assert world.summary()["Available"] == "False NotServing"
    assert world.summary()["Ready"] == "False HostOutOfMemory"
    assert set(world.take_events()) == {"Warning HostOutOfMemory", "Warning NotServing"}


def test_a_claim_that_nobody_complains_about_is_named_after_a_minute() -> None:
    world = settled(Script(download=lambda _: "unplaced", volume="Pending"))
    assert world.summary()["Downloaded"] == "False Downloading"

    world.now = START + timedelta(seconds=90)
    world.settle()

    assert world.summary()["Downloaded"] == "False VolumePending"
    assert "nobody said why" in world.condition("Downloaded")["message"]


def test_quota_that_refuses_the_pods_is_quoted() -> None:
    world = settled(engine("loading"))
    (server,) = world.of("Deployment")
    said = 'pods "x" is forbidden: exceeded quota: team-a, requested: requests.nvidia.com/gpu=1'
    server["status"]["conditions"] = [{"type": "ReplicaFailure", "status": "True", "message": said}]
    world.step()

    assert world.summary()["Loaded"] == "False QuotaExceeded"
    assert said in world.condition("Loaded")["message"]


def test_a_start_up_that_takes_too_long_is_a_failure() -> None:
    world = settled(engine("loading"))
    (server,) = world.of("Deployment")
    server["status"]["conditions"] = [
        {"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded"}
    ]
    world.step()

    assert world.summary()["Stalled"] == "True EngineFailed"


def suite_map(**data: str) -> Json:
    return {"kind": "ConfigMap", "metadata": {"name": "suite", "uid": "theirs"}, "data": data}


def test_a_missing_suite_is_waited_for() -> None:
    spec: Json = {"model": {"id": MODEL}, "test": {"promptfoo": {"configMapRef": {"name": "suite"}}}}
    world = settled(spec=spec)
    assert world.summary()["Ready"] == "False SuiteNotFound"

    world.objects["ConfigMap", "suite"] = suite_map(wrong="")
    world.settle()
    assert (
        "has wrong; put the suite under the key promptfooconfig.yaml." in world.condition("Tested")["message"]
    )

    world.objects["ConfigMap", "suite"] = suite_map(**{"promptfooconfig.yaml": "tests: []"})
    world.settle()
    assert world.summary()["Ready"] == "True Serving"
    assert ("ConfigMap", "suite") in world.objects


def test_an_edit_of_the_users_own_suite_is_tested_again() -> None:
    spec: Json = {"model": {"id": MODEL}, "test": {"promptfoo": {"configMapRef": {"name": "suite"}}}}
    world = settled(spec=spec)
    world.objects["ConfigMap", "suite"] = suite_map(**{"promptfooconfig.yaml": "tests: []"})
    world.settle()
    before = world.job("test")["metadata"]["name"]

    world.objects["ConfigMap", "suite"] = suite_map(**{"promptfooconfig.yaml": "tests: [{}]"})
    world.settle()

    assert world.job("test")["metadata"]["name"] != before
    assert world.summary()["Ready"] == "True Serving"


def test_a_job_that_succeeded_with_failures_in_its_report_has_not_passed() -> None:
    world = settled(suite_test("run"))
    job = world.job("test")
    job["status"] = {"conditions": [{"type": "Complete", "status": "True"}]}
    for (kind, _), pod in world.objects.items():
        if kind == "Pod" and pod["metadata"]["labels"][labels.COMPONENT] == "test":
            message = test_message(1)
            pod["status"] = {
                "phase": "Succeeded",
                "containerStatuses": [{"state": {"terminated": {"exitCode": 0, "message": message}}}],
            }
    world.step()

    assert world.summary()["Tested"] == "False TestFailed"
    assert world.public_revision() is None


def test_progress_stands_in_the_status(monkeypatch: pytest.MonkeyPatch) -> None:
    world = settled(download("run"))
    progress = Progress(bytes=1024, total=4096, rate=512, eta=6)
    seen = replace(world.observed(), progress=progress)
    monkeypatch.setattr(World, "observed", lambda _: seen)
    world.step()

    assert world.status["download"] == {"bytes": 1024, "total": 4096, "rate": "512 B/s", "eta": "0:00:06"}


WORDS = PodWords(who="It", failed=Reason.ENGINE_FAILED, image_field="image", memory_field="memory")


@pytest.mark.parametrize(
    "pod",
    [
        pytest.param(Pod(id=Identity(name="p"), ready=True, exit_code=1), id="it restarted and is ready"),
        pytest.param(Pod(id=Identity(name="p"), phase="Failed", exit_code=1), id="it ended, another runs"),
        pytest.param(Pod(id=Identity(name="p", deleting=True), unschedulable="no room"), id="it is going"),
        pytest.param(Pod(id=Identity(name="p"), waiting_reason="ContainerCreating"), id="it starts"),
        pytest.param(Pod(id=Identity(name="p"), phase="Running"), id="it runs"),
        # As a kubelet shows it for a second: the container has ended, the pod's phase follows.
        pytest.param(Pod(id=Identity(name="p"), phase="Running", job="j", exit_code=0), id="its Job is done"),
        pytest.param(
            Pod(id=Identity(name="p"), phase="Running", job="j", exit_code=100), id="its Job will say"
        ),
    ],
)
def test_a_pod_without_trouble_has_none(pod: Pod) -> None:
    assert trouble_of([pod], WORDS) is None


def test_a_failure_is_told_before_a_lack_of_room() -> None:
    pods = [
        Pod(id=Identity(name="a"), unschedulable="no room"),
        Pod(id=Identity(name="b"), waiting_reason="CrashLoopBackOff", exit_code=2),
    ]

    trouble = trouble_of(pods, WORDS)

    assert trouble is not None
    assert trouble.reason == Reason.ENGINE_FAILED


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param(None, "", id="nothing"),
        pytest.param("a\n  b", "a b", id="one line"),
        pytest.param("x" * 500 + "END", "..." + "x" * 397 + "END", id="the end is kept"),
    ],
)
def test_quotes_are_short(text: str | None, expected: str) -> None:
    assert expected == quote(text)
