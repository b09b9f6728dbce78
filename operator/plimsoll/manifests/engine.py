"""Which image serves, and which vLLM release the plan may assume of it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from plimsoll.api.spec import EngineSpec, ModelDeploymentSpec

if TYPE_CHECKING:
    from plimsoll.manifests.context import Settings

# "v0.33.0", "0.33.0-cu129", "v0.33.0.post1_ubi9"; a release candidate or a nightly is no release.
_TAG: Final = re.compile(r"^v?(\d{1,4}\.\d{1,4}\.\d{1,4})(?:\.post\d{1,4})?(?:[-_+].*)?$")


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineChoice:
    """The image, and vLLM's release in it."""

    image: str
    version: str


class EngineVersionUnknownError(ValueError):
    """The image's tag does not tell vLLM's release, and nothing else does.

    Attributes:
        field, value: where the image comes from, and the image.
        way_out: the next step, a clause.
    """

    def __init__(self, field: str, value: str, way_out: str) -> None:
        """Build the sentence."""
        self.field = field
        self.value = value
        self.way_out = way_out
        super().__init__(f"{field} is {value!r}: its tag does not name a release of vLLM; {way_out}.")


def choose_engine(spec: ModelDeploymentSpec, settings: Settings) -> EngineChoice:
    """The user's image, or the operator's default for the hardware; the version as set, or as the tag says.

    Raises:
        EngineVersionUnknownError: neither engine.version nor the tag says which release it is.
    """
    engine = spec.engine or EngineSpec()
    field, image = "engine.image", engine.image
    if image is None:
        field, image = _default_image(spec, settings)
    if engine.version is not None:
        return EngineChoice(image=image, version=engine.version.removeprefix("v"))
    version = version_in_tag(image)
    if version is None:
        raise EngineVersionUnknownError(
            field, image, "set engine.version to the release that the image holds, such as 0.33.0"
        )
    return EngineChoice(image=image, version=version)


def version_in_tag(image: str) -> str | None:
    """The release as an image's tag names it; None where it names none."""
    reference = image.partition("@")[0]
    last = reference.rpartition("/")[2]
    match = _TAG.match(last.partition(":")[2])
    return match[1] if match is not None else None


def runs_on_cpu(spec: ModelDeploymentSpec) -> bool:
    """Whether the user asked for CPU only."""
    return spec.parallelism is not None and spec.parallelism.tensor_parallel_size == 0


def _default_image(spec: ModelDeploymentSpec, settings: Settings) -> tuple[str, str]:
    if runs_on_cpu(spec):
        return "the operator's --vllm-cpu-image", settings.vllm_cpu_image
    return "the operator's --vllm-image", settings.vllm_image
