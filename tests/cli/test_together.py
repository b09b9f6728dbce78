"""plan on several files: one GPU for all of them, the shares, the stack, and who would serve it."""

from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING, Any

import pytest
from cli_samples import model_deployment, node, write_nodes, write_yaml
from click.testing import CliRunner, Result
from rich.console import Console

from plimsoll.cli.main import cli
from plimsoll.cli.stack import stack
from plimsoll.cli.together import Together
from plimsoll.sizing.catalogue import lookup
from plimsoll.sizing.gpus import find
from plimsoll.sizing.serving import Serving
from plimsoll.sizing.shape import shape_from_facts
from plimsoll.sizing.sharing import Tenant, share_card

if TYPE_CHECKING:
    from pathlib import Path

NO_CLUSTER = {
    "KUBECONFIG": "/nonexistent/kubeconfig",
    "HF_ENDPOINT": "http://127.0.0.1:9",
    "COLUMNS": "100",
    "HF_TOKEN": None,
}
QWEN_14B = "Qwen/Qwen2.5-14B-Instruct"
LLAMA_70B = "meta-llama/Llama-3.1-70B-Instruct"


def run(*arguments: str, **environment: str) -> Result:
    return CliRunner().invoke(cli, ["plan", *arguments], env=NO_CLUSTER | environment)


def a100(name: str = "a100-0", **labels: str) -> dict[str, Any]:
    one = node(name, 8, "NVIDIA-A100-SXM4-80GB", 81920)
    one["metadata"]["labels"] |= {"nvidia.com/gpu.compute.minor": "0"} | labels
    return one


@pytest.fixture
def two(tmp_path: Path) -> str:
    return write_yaml(
        tmp_path / "two.yaml",
        model_deployment("chat"),
        model_deployment("coder", QWEN_14B, engine={"maxModelLen": 8192}),
    )


def together(*arguments: str) -> dict[str, Any]:
    result = run(*arguments, "-o", "json")
    assert result.stderr == "", result.stderr
    found: dict[str, Any] = json.loads(result.stdout)["together"]
    return found


def test_several_models_get_shares_of_the_smallest_card_that_holds_them(two: str) -> None:
    found = together("-f", two, "--gpu", "H200", "--gpu", "A10", "--gpu", "A100-80GB")
    shares = [one["gpu_memory_utilization"] for one in found["models"]]

    assert (found["verdict"], found["gpu"]["name"]) == ("fits", "A100-80GB")
    assert [one["name"] for one in found["models"]] == ["chat", "coder"]
    assert sum(shares) == pytest.approx(found["gpu_memory_utilization"])
    assert sum(shares) < 1
    taken = sum(one["requested_bytes"] + one["outside_bytes"] for one in found["models"])
    assert taken + found["free_bytes"] == found["gpu"]["memory_bytes"]
    for one in found["models"]:
        estimate = one["estimate"]
        assert estimate["engine"]["gpu_memory_utilization"] == one["gpu_memory_utilization"]
        assert f"--gpu-memory-utilization {one['gpu_memory_utilization']:g}" in estimate["command"]
        assert estimate["tensor_parallel_size"] == 1


def test_the_stack_has_every_server_and_what_lies_beside_the_shares(two: str) -> None:
    result = run("-f", two, "--gpu", "H100")
    lines = result.stdout.splitlines()
    heads = [line.split("┤ ")[1].split(":")[0] for line in lines if "├" in line and "┤ " in line]

    assert result.exit_code == 0
    assert heads == ["beside the shares", "coder", "chat"]
    assert next(line for line in lines if "weights " in line).startswith("  │█")
    assert lines[-1] == "2 of 2 fit."


def test_without_unicode_the_stack_is_drawn_in_letters() -> None:
    facts = lookup(QWEN_14B)
    assert facts is not None
    tenants = [
        Tenant(
            name=name, shape=shape_from_facts(facts), facts=facts, serving=Serving(engine_version="0.33.0")
        )
        for name in ("one", "two")
    ]
    answer = Together(deployments=(), result=share_card(tenants, find("H200")), served_by=None, advice="Do.")
    console = Console(width=100, file=io.StringIO())
    with console.capture() as captured:
        for line in stack(answer, ascii_only=True):
            console.print(line)
    drawn = [line for line in captured.get().splitlines() if line.startswith(("  |", "  +"))]

    assert all(line.isascii() for line in drawn)
    assert {line[3] for line in drawn} == {"-", " ", "R", "A", "K", "W"}


@pytest.mark.parametrize("asked", [True, False], ids=["asked", "not asked"])
def test_what_does_not_fit_together_is_refused_with_the_sum_if_it_was_the_question(
    two: str, asked: bool
) -> None:
    result = run("-f", two, "--gpu", "A10", *(["--on-one-gpu"] if asked else []))

    assert result.exit_code == (1 if asked else 0)
    assert ("Refused (DoesNotFit): chat, coder on one GPU" in result.stdout) is asked
    assert ("Not on one GPU together: chat " in result.stdout) is not asked
    assert "2 CUDA contexts" in " ".join(result.stdout.split())


def test_a_third_that_does_not_fit_is_refused_with_the_sum(two: str, tmp_path: Path) -> None:
    third = write_yaml(
        tmp_path / "third.yaml", model_deployment("large", LLAMA_70B, engine={"maxModelLen": 8192})
    )
    found = together("-f", two, "-f", third, "--gpu", "H200", "--on-one-gpu")

    assert (found["verdict"], found["models"], found["served"]) == ("refused", [], False)
    assert found["refusal"]["needed_bytes"] > found["refusal"]["available_bytes"]
    assert any(clause.startswith("without large: ") for clause in found["refusal"]["would_fit"])


@pytest.mark.parametrize(
    ("labels", "served"),
    [
        pytest.param({}, False, id="whole GPUs"),
        pytest.param({"nvidia.com/gpu.replicas": "2"}, True, id="time slicing"),
        pytest.param(
            {"nvidia.com/gpu.replicas": "2", "nvidia.com/gpu.sharing-strategy": "mps"}, None, id="MPS"
        ),
    ],
)
def test_it_is_served_where_nodes_share_their_gpus(
    two: str, tmp_path: Path, labels: dict[str, str], served: bool | None
) -> None:
    nodes = write_nodes(tmp_path / "nodes.json", a100(**labels))
    found = together("-f", two, "--nodes-file", nodes)

    assert found["verdict"] == ("refused" if served is None else "fits")
    assert found["served"] is bool(served)
    if served is None:
        assert "no kind of GPU that all of them may use" in found["refusal"]["message"]
    else:
        assert ("The operator serves them so on 1 node with" in found["advice"]) is served
        assert "one after another" in found["advice"]


def test_the_shares_that_plan_gives_are_served_on_shared_gpus(two: str, tmp_path: Path) -> None:
    nodes = write_nodes(tmp_path / "nodes.json", a100(**{"nvidia.com/gpu.replicas": "2"}))
    shares = [one["gpu_memory_utilization"] for one in together("-f", two, "--nodes-file", nodes)["models"]]
    sharing = {"gpu": {"shared": True}}
    path = write_yaml(
        tmp_path / "shared.yaml",
        model_deployment("chat", hardware=sharing, engine={"vllm": {"gpuMemoryUtilization": shares[0]}}),
        model_deployment(
            "coder",
            QWEN_14B,
            hardware=sharing,
            engine={"maxModelLen": 8192, "vllm": {"gpuMemoryUtilization": shares[1]}},
        ),
    )
    result = run("-f", path, "--nodes-file", nodes, "-o", "json")
    document = json.loads(result.stdout)

    assert result.exit_code == 0
    assert [one["plan"]["gpus"] for one in document["models"]] == [1, 1]
    assert all(
        any("time slicing" in warning for warning in one["plan"]["warnings"]) for one in document["models"]
    )


@pytest.mark.parametrize(
    "documents",
    [
        pytest.param([model_deployment("chat")], id="one model"),
        pytest.param(
            [
                model_deployment("chat"),
                model_deployment("small", parallelism={"tensorParallelSize": 0}),
            ],
            id="CPU only",
        ),
        pytest.param(
            [model_deployment("chat"), model_deployment("bad", engine={"vllm": {"quantization": "gguf"}})],
            id="invalid",
        ),
    ],
)
def test_where_the_question_does_not_arise_nothing_is_said_and_asking_is_wrong_usage(
    tmp_path: Path, documents: list[dict[str, Any]]
) -> None:
    path = write_yaml(tmp_path / "m.yaml", *documents)
    nodes = write_nodes(tmp_path / "nodes.json", a100())

    assert together("-f", path, "--nodes-file", nodes) is None
    result = run("-f", path, "--nodes-file", nodes, "--on-one-gpu")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "--on-one-gpu" in result.stderr
