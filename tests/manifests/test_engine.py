"""Which image serves, and which release it is taken for."""

from __future__ import annotations

from typing import Any

import pytest

from plimsoll.api.spec import ModelDeploymentSpec
from plimsoll.manifests.context import Settings
from plimsoll.manifests.engine import EngineChoice, EngineVersionUnknownError, choose_engine

SETTINGS = Settings(vllm_image="gpu/vllm:v0.33.0", vllm_cpu_image="cpu/vllm:v0.32.0")


def spec(**fields: Any) -> ModelDeploymentSpec:
    return ModelDeploymentSpec.model_validate({"model": {"id": "a/b"}, **fields})


@pytest.mark.parametrize(
    ("fields", "image", "version"),
    [
        pytest.param({}, "gpu/vllm:v0.33.0", "0.33.0", id="default for GPUs"),
        pytest.param(
            {"parallelism": {"tensorParallelSize": 0}}, "cpu/vllm:v0.32.0", "0.32.0", id="default for CPU"
        ),
        pytest.param(
            {"engine": {"image": "r:5000/x:0.20.1"}}, "r:5000/x:0.20.1", "0.20.1", id="registry with port"
        ),
        pytest.param(
            {"engine": {"image": "x:v0.20.1-cu129"}}, "x:v0.20.1-cu129", "0.20.1", id="build suffix"
        ),
        pytest.param(
            {"engine": {"image": "x:v0.20.1.post2"}}, "x:v0.20.1.post2", "0.20.1", id="post release"
        ),
        pytest.param(
            {"engine": {"image": "x:v0.20.1@sha256:abc"}},
            "x:v0.20.1@sha256:abc",
            "0.20.1",
            id="tag and digest",
        ),
        pytest.param(
            {"engine": {"image": "x:latest", "version": "v0.21.0"}},
            "x:latest",
            "0.21.0",
            id="set beside a tag",
        ),
        pytest.param(
            {"engine": {"version": "0.21.0"}}, "gpu/vllm:v0.33.0", "0.21.0", id="set beside the default"
        ),
    ],
)
def test_version_comes_from_the_field_or_the_tag(fields: dict[str, Any], image: str, version: str) -> None:
    assert EngineChoice(image=image, version=version) == choose_engine(spec(**fields), SETTINGS)


@pytest.mark.parametrize(
    "image",
    ["x", "x:latest", "x@sha256:abc", "r:5000/x", "x:nightly-0.33.0", "x:v0.33.0rc1", "x:v0.33"],
)
def test_a_tag_that_says_nothing_asks_for_the_version(image: str) -> None:
    with pytest.raises(EngineVersionUnknownError) as caught:
        choose_engine(spec(engine={"image": image}), SETTINGS)

    assert str(caught.value) == (
        f"engine.image is '{image}': its tag does not name a release of vLLM; "
        "set engine.version to the release that the image holds, such as 0.33.0."
    )


def test_a_silent_default_image_names_the_operators_own_option() -> None:
    with pytest.raises(EngineVersionUnknownError, match=r"^the operator's --vllm-image is 'mine:dev'"):
        choose_engine(spec(), Settings(vllm_image="mine:dev"))
