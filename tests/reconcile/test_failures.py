"""Why a container ended: recorded words of engines, registries and schedulers, and the reason and step they get.

The files *.txt are whole start-ups of vLLM 0.32.0 on CPU that were made to fail, as the kubelet would hand out their
end; quoted.toml has lines of failures that need a GPU, each with its source.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plimsoll.api.conditions import TERMINAL_REASONS, Reason
from plimsoll.reconcile.failures import Failure, classify, last_words
from plimsoll.reconcile.image_pulls import judge_image_pull
from plimsoll.reconcile.known_failures import KNOWN_FAILURES
from plimsoll.reconcile.quoting import quote, scrub
from plimsoll.reconcile.scheduling import what_would_help

RECORDED = Path(__file__).parent / "recorded_failures"
QUOTED: dict[str, dict[str, Any]] = tomllib.loads((RECORDED / "quoted.toml").read_text("utf-8"))
# The kubelet's limits for FallbackToLogsOnError.
MESSAGE_BYTES, MESSAGE_LINES = 2048, 80


def judge(log: str, exit_code: int = 1, exit_reason: str | None = "Error") -> Failure | None:
    return classify(
        exit_code=exit_code,
        exit_reason=exit_reason,
        log_tail=log,
        memory_field="resources.server.limits.memory",
    )


def recorded(name: str) -> str:
    return (RECORDED / f"{name}.txt").read_text("utf-8")


def termination_message(log: str) -> str:
    tail = "".join(log.splitlines(keepends=True)[-MESSAGE_LINES:])
    return tail.encode()[-MESSAGE_BYTES:].decode(errors="ignore")


@pytest.mark.parametrize(
    ("name", "reason", "words"),
    [
        ("context-too-long", "KVCacheTooSmall", "max seq len (2000000), (1.91 GiB KV cache is needed"),
        ("architecture", "UnsupportedArchitecture", "Model architectures ['NoSuchForCausalLM'] are not"),
        ("model-type", "UnsupportedArchitecture", "has model type `nosuch` but Transformers does not"),
        ("tokenizer", "TokenizerMissing", "Couldn't instantiate the backend tokenizer"),
        ("quantization", "UnsupportedQuantization", "Unknown quantization method: squeezellm."),
        ("remote-code", "RemoteCodeNeeded", "contains custom code which must be executed"),
        ("weights-cut-off", "WeightsDamaged", "incomplete metadata, file not fully covered"),
        ("longer-than-the-model", "ContextTooLong", "User-specified max_model_len (999999) is greater than"),
    ],
)
def test_a_start_up_that_failed_has_a_reason(name: str, reason: str, words: str) -> None:
    failure = judge(recorded(name))

    assert failure is not None
    assert failure.reason == reason
    assert words in failure.what
    assert failure.next_step


@pytest.mark.parametrize("name", sorted(QUOTED))
def test_quoted_words_have_a_reason(name: str) -> None:
    case = QUOTED[name]
    failure = judge(case["text"])

    assert failure is not None
    assert (failure.reason, failure.suggested_max_model_len) == (case["reason"], case.get("suggested"))
    assert case["source"]


def test_every_known_failure_was_recorded_and_cites_its_source() -> None:
    texts = [case["text"] for case in QUOTED.values()] + [
        p.read_text("utf-8") for p in RECORDED.glob("*.txt")
    ]

    assert {failure.reason.value for text in texts if (failure := judge(text)) is not None} == {
        known.reason.value for known in KNOWN_FAILURES
    }
    assert [known for known in KNOWN_FAILURES if "#" not in known.source and "vLLM" not in known.source] == []


def test_the_length_that_the_engine_suggests_is_read() -> None:
    failure = judge(recorded("context-too-long"))

    assert failure is not None
    assert failure.suggested_max_model_len == 1048448


def test_the_termination_message_alone_does_not_tell_why_an_engine_failed() -> None:
    message = termination_message(recorded("context-too-long"))

    assert judge(message) is None
    assert "Engine core initialization failed" in message


def test_a_container_that_took_too_much_memory_says_nothing_and_is_told_all_the_same() -> None:
    failure = judge("", exit_code=137, exit_reason="OOMKilled")

    assert failure is not None
    assert failure.reason == Reason.HOST_OUT_OF_MEMORY
    assert failure.next_step == "raise resources.server.limits.memory"


@pytest.mark.parametrize(
    ("log", "exit_code"),
    [
        pytest.param("", 1, id="nothing said"),
        pytest.param("Killed", 137, id="killed from outside"),
        pytest.param(QUOTED["sampler"]["text"], 0, id="it ended well"),
        pytest.param(
            "INFO 04-12 08:22:04 [model_runner.py:1456] If out-of-memory error occurs during cudagraph capture, "
            "consider decreasing `gpu_memory_utilization`.",
            1,
            id="advice is no failure",
        ),
        pytest.param(
            "(APIServer pid=1) WARNING 11-21 12:57:39 [system_utils.py:255] This can cause fd limit errors like "
            "`OSError: [Errno 28] No space left on device`.",
            1,
            id="a warning is no failure",
        ),
    ],
)
def test_what_is_not_known_is_not_guessed(log: str, exit_code: int) -> None:
    assert judge(log, exit_code) is None


@pytest.mark.parametrize(
    ("log", "expected"),
    [
        pytest.param("KV cache is too small", "KV cache is too small", id="no exception"),
        pytest.param(
            "(EngineCore pid=1) ERROR 11-21 12:56:00 [core.py:1510] ValueError: no such thing\n"
            "(APIServer pid=2) RuntimeError: Engine core initialization failed. See root cause above.",
            "ValueError: no such thing",
            id="the cause, not the hearsay",
        ),
        pytest.param(None, "", id="nothing"),
    ],
)
def test_the_last_words_are_those_that_tell_the_cause(log: str | None, expected: str) -> None:
    assert last_words(log) == expected


TOKEN = "hf_" + "aBcDeFgHiJ" * 3 + "wxyz"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"401 for {TOKEN}!", "401 for hf_***!"),
        (f"Authorization: Bearer {TOKEN}", "Authorization: Bearer ***"),
        ("Authorization: Bearer abc.def-123", "Authorization: Bearer ***"),
        ("https://me:secret@mirror/x", "https://***@mirror/x"),
        ("hf_overrides={}", "hf_overrides={}"),
    ],
)
def test_a_token_never_gets_into_a_message(text: str, expected: str) -> None:
    assert scrub(text) == expected
    assert quote(text) == expected


@given(before=st.text(max_size=30), after=st.text(max_size=30))
def test_a_token_in_a_log_is_not_quoted(before: str, after: str) -> None:
    log = f"ValueError: {before} {TOKEN} {after}\n" + QUOTED["tokenizer"]["text"].replace(
        "/qwen2llama", TOKEN
    )
    failure = judge(log)

    assert failure is not None
    assert TOKEN not in failure.what + last_words(log)


@given(st.text(max_size=400), st.integers(-1, 255))
def test_any_log_is_judged_without_an_error(log: str, exit_code: int) -> None:
    failure = judge(log, exit_code)
    assert failure is None or failure.reason in set(Reason)


CONTAINERD = (
    'Back-off pulling image "docker.io/vllm/vllm-openai:v99": ErrImagePull: rpc error: code = NotFound desc = failed '
    'to pull and unpack image "docker.io/vllm/vllm-openai:v99": failed to resolve reference '
    '"docker.io/vllm/vllm-openai:v99": docker.io/vllm/vllm-openai:v99: not found'
)


@pytest.mark.parametrize(
    ("waiting", "message", "reason"),
    [
        pytest.param("ImagePullBackOff", CONTAINERD, "ImageNotFound", id="containerd, no such tag"),
        pytest.param(
            "ErrImagePull",
            "rpc error: code = Unknown desc = Error response from daemon: manifest for "
            "lachlanevenson/k8s-kubectl:v1.18.20 not found: manifest unknown: manifest unknown",
            "ImageNotFound",
            id="lachie83/k8s-kubectl#157",
        ),
        pytest.param(
            "ErrImagePull",
            'failed to resolve reference "docker.io/tinkerbell/operator:v0.1.0": pull access denied, repository does '
            "not exist or may require authorization: server message: insufficient_scope: authorization failed",
            "ImagePullDenied",
            id="tinkerbell/operator#18",
        ),
        pytest.param(
            "ErrImagePull",
            "rpc error: code = Unknown desc = Error response from daemon: unauthorized: authentication required",
            "ImagePullDenied",
            id="octarinesec/octarine-operator#15",
        ),
        pytest.param(
            "ImagePullBackOff",
            'Back-off pulling image "gcr.io/deis-sandbox/tiller:canary"',
            "ImagePullFailed",
            id="helm/helm#623",
        ),
        pytest.param("InvalidImageName", "couldn't parse image name", "ImageNotFound", id="no name"),
        pytest.param("ErrImageNeverPull", "policy of Never", "ImageNotFound", id="never pulled"),
        pytest.param("ErrImagePull", "dial tcp: i/o timeout", "ImagePullFailed", id="unreachable"),
    ],
)
def test_an_image_that_does_not_come_has_a_reason(waiting: str, message: str, reason: str) -> None:
    pull = judge_image_pull(waiting, message, "engine.image")

    assert pull.reason == reason
    assert "engine.image" in pull.next_step
    assert (pull.reason in TERMINAL_REASONS) == (reason != "ImagePullFailed")


@pytest.mark.parametrize(
    ("message", "steps"),
    [
        pytest.param(
            "0/4 nodes are available: 4 Insufficient nvidia.com/gpu. preemption: 0/4 nodes are available: 4 No "
            "preemption victims found for incoming pod.",
            ["4 nodes lack a free nvidia.com/gpu: free it there", "lower hardware.gpu.count"],
            id="Project-HAMi/HAMi#1069",
        ),
        pytest.param(
            "0/12 nodes are available: 3 Insufficient memory, 9 node(s) didn't match node selector.",
            ["9 nodes have other labels: change hardware.gpu.product", "3 nodes lack memory: free it there"],
            id="kubernetes/kubernetes#86942",
        ),
        pytest.param(
            "0/1 nodes are available: 1 node(s) had untolerated taint {gpu: }. preemption: 0/1 nodes are available: "
            "1 Preemption is not helpful for scheduling..",
            ["1 node has a taint {gpu:}: add it to pod.tolerations"],
            id="NVIDIA/k8s-device-plugin#421",
        ),
        pytest.param(
            "0/10 nodes are available: 10 node(s) didn't match node selector, 4 Insufficient cpu.",
            ["10 nodes have other labels", "4 nodes lack cpu"],
            id="kubernetes/kubernetes#49896",
        ),
        pytest.param("no reason given", ["free what it lacks, add a node"], id="something else"),
    ],
)
def test_an_unschedulable_pod_is_told_what_would_help(message: str, steps: list[str]) -> None:
    said = what_would_help(message)

    places = [said.find(step) for step in steps]
    assert places == sorted(places)
    assert -1 not in places
    assert "preemption" not in said


@pytest.mark.parametrize(
    ("exit_code", "exit_reason"),
    [(143, "Error"), (137, "Error"), (0, "Completed")],
    ids=["TERM", "KILL", "0"],
)
def test_a_throttled_engine_is_told_whatever_it_ended_with(exit_code: int, exit_reason: str) -> None:
    said = "Plimsoll: the CPU was throttled in 8914 of 9011 periods\n"

    failure = judge(said, exit_code, exit_reason)

    assert failure is not None
    assert failure.reason == "CPUThrottled"
    assert "throttled in 8914 of 9011 periods" in failure.what
    assert failure.next_step == "raise resources.server.limits.cpu"


def test_a_log_that_quotes_the_words_is_no_throttled_engine() -> None:
    assert judge('INFO prompt: "Plimsoll: the CPU was throttled in 1 of 1 periods"') is None
