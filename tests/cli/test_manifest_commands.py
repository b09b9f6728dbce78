"""plan, render, quota and explain -f: the operator's rules on files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from cli_samples import MISTRAL, model_deployment, node, write_nodes, write_yaml
from click.testing import CliRunner, Result

from plimsoll.cli.main import cli
from plimsoll.units import GIB, parse_bytes, parse_millicores

NOWHERE = "http://127.0.0.1:9"
NO_CLUSTER = {
    "KUBECONFIG": "/nonexistent/kubeconfig",
    "HF_ENDPOINT": NOWHERE,
    "COLUMNS": "100",
    "HF_TOKEN": None,
}


def run(*arguments: str, **environment: str) -> Result:
    return CliRunner().invoke(cli, list(arguments), env=NO_CLUSTER | environment)


def succeeded(*arguments: str) -> str:
    result = run(*arguments)
    assert (result.exit_code, result.stderr) == (0, ""), result.output
    return result.stdout


@pytest.fixture
def model(tmp_path: Path) -> str:
    return write_yaml(tmp_path / "model.yaml", model_deployment())


@pytest.fixture
def nodes(tmp_path: Path) -> str:
    return write_nodes(tmp_path / "nodes.json", node("a10-0"), node("a10-1"))


def rendered(*arguments: str) -> list[dict[str, Any]]:
    return [one for one in yaml.safe_load_all(succeeded("render", *arguments)) if one]


STAGES = ["PersistentVolumeClaim", "Job", "ConfigMap", "Deployment", "Service", "Job", "Service"]


def test_render_prints_the_children_of_every_stage(model: str) -> None:
    children = rendered("-f", model, "--gpu", "A10")

    assert sorted(STAGES) == sorted(child["kind"] for child in children)
    components = [
        child["metadata"]["labels"]["plimsoll.dev/component"] for child in children if child["kind"] == "Job"
    ]
    assert {"download", "test"} == set(components)
    assert {"default"} == {child["metadata"]["namespace"] for child in children}
    public = [
        child
        for child in children
        if child["kind"] == "Service" and child["metadata"]["name"] == "mistral-7b"
    ]
    assert len(public) == 1


def test_render_names_the_hardware_that_was_planned_for(model: str) -> None:
    (server,) = [one for one in rendered("-f", model, "--gpu", "A10") if one["kind"] == "Deployment"]
    text = json.dumps(server)

    assert "NVIDIA-A10" in text
    (container,) = server["spec"]["template"]["spec"]["containers"]
    assert int(container["resources"]["limits"]["nvidia.com/gpu"]) == 1
    assert "32768" in container["args"] or "--max-model-len=32768" in container["args"]


def test_render_is_the_same_from_a_file_of_nodes_and_by_name(model: str, nodes: str) -> None:
    assert succeeded("render", "-f", model, "--gpu", "A10") == succeeded(
        "render", "-f", model, "--nodes-file", nodes
    )


def test_render_twice_prints_the_same(model: str) -> None:
    assert succeeded("render", "-f", model, "--gpu", "A10") == succeeded(
        "render", "-f", model, "--gpu", "A10"
    )


def test_render_as_json_is_one_list(model: str) -> None:
    document = json.loads(succeeded("render", "-f", model, "--gpu", "A10", "-o", "json"))

    assert (document["apiVersion"], document["kind"]) == ("v1", "List")
    assert rendered("-f", model, "--gpu", "A10") == document["items"]


def test_render_has_no_yaml_alias(model: str) -> None:
    assert "&id" not in succeeded("render", "-f", model, "--gpu", "A10")


def test_render_takes_the_card_that_the_manifest_names(tmp_path: Path) -> None:
    path = write_yaml(tmp_path / "m.yaml", model_deployment(hardware={"gpu": {"product": "L4"}}))

    assert "NVIDIA-L4" in succeeded("render", "-f", path)


@pytest.mark.parametrize(
    "spec",
    [
        pytest.param({"suspend": True}, id="suspended"),
        pytest.param({"test": {"gate": "Off"}}, id="gate off"),
        pytest.param(
            {"test": {"promptfoo": {"configMapRef": {"name": "suite"}}}}, id="a suite of the user's"
        ),
        pytest.param({"storage": {"existingClaim": "models"}}, id="a claim of the user's"),
        pytest.param({"replicas": 0}, id="no replica"),
    ],
)
def test_render_follows_what_the_spec_leaves_out(tmp_path: Path, spec: dict[str, Any]) -> None:
    path = write_yaml(tmp_path / "m.yaml", model_deployment(**spec))
    kinds = [one["kind"] for one in rendered("-f", path, "--gpu", "A10")]

    assert "Deployment" in kinds
    assert ("PersistentVolumeClaim" in kinds) == ("storage" not in spec)
    num_jobs = 1 if "suspend" in spec or ("test" in spec and "gate" in spec["test"]) else 2
    if spec.get("replicas") != 0:
        assert num_jobs == kinds.count("Job")


def test_render_of_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    path = write_yaml(tmp_path / "m.yaml", model_deployment(model="deepseek-ai/DeepSeek-V3"))
    result = run("render", "-f", path, "--gpu", "T4")

    assert (result.exit_code, result.stdout) == (1, "")
    assert len(result.stderr.splitlines()) == 1
    assert "mistral-7b: HardwareCannot" in result.stderr


def test_plan_says_where_each_model_lands(tmp_path: Path, nodes: str) -> None:
    path = write_yaml(tmp_path / "m.yaml", model_deployment(), model_deployment("second"))
    text = succeeded("plan", "-f", path, "--nodes-file", nodes)

    assert text.splitlines()[1].split()[:5] == ["mistral-7b", "NVIDIA-A10", "1", "1", "1"]
    assert text.splitlines()[-1] == "2 of 2 fit."


def test_plan_as_json_holds_the_plan_as_status_keeps_it(model: str, nodes: str) -> None:
    document = json.loads(succeeded("plan", "-f", model, "--nodes-file", nodes, "-o", "json"))

    assert document["verdict"] == "fits"
    (one,) = document["models"]
    assert (one["name"], one["namespace"], one["model"], one["reason"]) == (
        "mistral-7b",
        "default",
        MISTRAL,
        "Planned",
    )
    assert (one["plan"]["tensorParallelSize"], one["plan"]["maxModelLen"]) == (1, 32768)


@pytest.mark.parametrize(
    ("documents", "reason", "fragment"),
    [
        pytest.param(
            (model_deployment(model="deepseek-ai/DeepSeek-V3"),),
            "DoesNotFit",
            "What would fit",
            id="does not fit",
        ),
        pytest.param(
            (model_deployment(hardware={"gpu": {"product": "H100"}}),),
            "NoMatchingNode",
            "H100",
            id="no such node",
        ),
        pytest.param(
            (model_deployment(engine={"vllm": {"extraArgs": ["--tensor-parallel-size=2"]}}),),
            "InvalidSpec",
            "extraArgs",
            id="invalid",
        ),
        pytest.param(
            (model_deployment(), model_deployment("two", engine={"maxModelLen": 10**6})),
            "ContextTooLong",
            "1 of 2 fit.",
            id="one of two",
        ),
    ],
)
def test_plan_refuses_with_the_reason_of_the_condition(
    tmp_path: Path, nodes: str, documents: tuple[dict[str, Any], ...], reason: str, fragment: str
) -> None:
    path = write_yaml(tmp_path / "m.yaml", *documents)
    text = run("plan", "-f", path, "--nodes-file", nodes)
    document = run("plan", "-f", path, "--nodes-file", nodes, "-o", "json")

    assert (text.exit_code, text.stderr) == (1, "")
    assert reason in text.stdout
    assert fragment in text.stdout
    assert document.exit_code == 1
    assert reason in [one["reason"] for one in json.loads(document.stdout)["models"]]


def hard(*arguments: str) -> dict[str, Any]:
    document = yaml.safe_load(succeeded("quota", *arguments))
    assert (document["apiVersion"], document["kind"]) == ("v1", "ResourceQuota")
    found: dict[str, Any] = document["spec"]["hard"]
    return found


def test_the_rule_of_thumb_for_7b_is_of_the_known_size() -> None:
    quota = hard("--for", "7B")

    # "About 12 cores, 24 Gi, 1-2 GPUs": between what is requested and what may be used at the most.
    assert parse_millicores(quota["requests.cpu"]) <= 12_000 <= parse_millicores(quota["limits.cpu"])
    assert parse_bytes(quota["requests.memory"]) <= 24 * GIB <= parse_bytes(quota["limits.memory"])
    assert 1 <= int(quota["requests.nvidia.com/gpu"]) <= 2


def test_the_quota_of_two_models_is_more_than_that_of_one(tmp_path: Path, model: str) -> None:
    two = write_yaml(tmp_path / "two.yaml", model_deployment(), model_deployment("second"))
    one, both = hard("-f", model, "--gpu", "A10"), hard("-f", two, "--gpu", "A10")

    assert 2 * int(one["requests.nvidia.com/gpu"]) == int(both["requests.nvidia.com/gpu"])
    assert parse_bytes(both["requests.memory"]) > parse_bytes(one["requests.memory"])


def test_quota_as_json_is_the_same_document(model: str) -> None:
    arguments = ("quota", "-f", model, "--gpu", "A10")

    assert yaml.safe_load(succeeded(*arguments)) == json.loads(succeeded(*arguments, "-o", "json"))


def test_explain_of_a_manifest_is_the_estimate_that_it_stands_for(tmp_path: Path) -> None:
    path = write_yaml(tmp_path / "m.yaml", model_deployment(engine={"maxModelLen": 4096}))
    by_file = json.loads(succeeded("explain", "-f", path, "--gpu", "A10", "-o", "json"))
    by_name = json.loads(
        succeeded("explain", MISTRAL, "--gpu", "A10", "--max-model-len", "4096", "-o", "json")
    )

    assert by_name == by_file


@pytest.mark.parametrize(
    ("arguments", "status", "sentence"),
    [
        pytest.param(
            ("render", "-f", "MODEL"), 2, "nothing says which GPUs mistral-7b may use", id="no hardware"
        ),
        pytest.param(
            ("render", "-f", "MODEL", "--gpu", "A10", "--nodes-file", "NODES"),
            2,
            "twice",
            id="hardware twice",
        ),
        pytest.param(("render", "-f", "absent.yaml", "--gpu", "A10"), 2, "cannot be read", id="no file"),
        pytest.param(("plan", "-f", "MODEL"), 2, "there is no kubeconfig", id="no kubeconfig"),
        pytest.param(
            ("plan", "-f", "MODEL", "--kubeconfig", "absent"), 2, "there is no such file", id="absent"
        ),
        pytest.param(
            ("plan", "-f", "MODEL", "--kubeconfig", "DEAD"), 3, "cannot list nodes", id="no cluster"
        ),
        pytest.param(("plan", "-f", "MODEL", "--nodes-file", "MODEL"), 2, "holds no Node", id="no nodes"),
        pytest.param(
            ("plan", "-f", "ELSEWHERE", "--nodes-file", "NODES"), 3, "cannot be reached", id="no hub"
        ),
        pytest.param(("quota",), 2, "say for what", id="quota of nothing"),
        pytest.param(("quota", "-f", "MODEL", "--for", "7B"), 2, "say for what", id="quota of both"),
        pytest.param(("quota", "--for", "seven"), 2, "--for: ", id="quota of a word"),
        pytest.param(("explain", "-f", "MODEL", MISTRAL, "--gpu", "A10"), 2, "twice", id="explain of both"),
        pytest.param(("explain", "-f", "TWO", "--gpu", "A10"), 2, "one by one", id="explain of two"),
    ],
)
def test_what_cannot_be_answered_is_one_sentence(
    tmp_path: Path, model: str, nodes: str, arguments: tuple[str, ...], status: int, sentence: str
) -> None:
    kubeconfig = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "c",
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        "clusters": [{"name": "c", "cluster": {"server": NOWHERE}}],
        "users": [{"name": "u", "user": {"token": "t"}}],
    }
    files = {
        "MODEL": model,
        "NODES": nodes,
        "TWO": write_yaml(tmp_path / "two.yaml", model_deployment(), model_deployment("second")),
        "ELSEWHERE": write_yaml(tmp_path / "elsewhere.yaml", model_deployment(model="org/unknown")),
        "DEAD": write_yaml(tmp_path / "kubeconfig", kubeconfig),
    }
    result = run(*(files.get(argument, argument) for argument in arguments))

    assert (status, "") == (result.exit_code, result.stdout)
    assert len(result.stderr.splitlines()) == 1, result.stderr
    assert sentence in result.stderr


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"metadata": []}, id="metadata"),
        pytest.param({"metadata": {"labels": ["a"]}}, id="labels"),
        pytest.param({"spec": {"taints": ["a"]}}, id="taints"),
        pytest.param({"status": None}, id="status"),
        pytest.param({"status": {"conditions": {"Ready": True}}}, id="conditions"),
        pytest.param({"status": {"conditions": [], "allocatable": {"cpu": [1]}}}, id="amounts"),
    ],
)
def test_a_malformed_node_is_one_sentence(tmp_path: Path, model: str, change: dict[str, Any]) -> None:
    path = write_nodes(tmp_path / "bad.json", node() | change)
    result = run("plan", "-f", model, "--nodes-file", path)

    assert (result.exit_code, result.stdout) == (2, "")
    assert "of node 1 has not the form" in result.stderr
