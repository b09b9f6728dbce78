"""What every builder is given: the ModelDeployment, its plan, and the operator's settings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from plimsoll import __version__
from plimsoll.api.spec import ModelDeployment, ModelDeploymentSpec, PodSpec, PromptfooSpec, StorageSpec
from plimsoll.manifests.names import model_folder, volume_claim_name

if TYPE_CHECKING:
    from plimsoll.api.status import PlanStatus

DEFAULT_HUB_ENDPOINT: Final = "https://huggingface.co"
DEFAULT_VLLM_IMAGE: Final = "vllm/vllm-openai:v0.33.0"
DEFAULT_VLLM_CPU_IMAGE: Final = "vllm/vllm-openai-cpu:v0.33.0"
DEFAULT_OPERATOR_IMAGE: Final = f"plimsoll/plimsoll:{__version__}"
DEFAULT_PROMPTFOO_IMAGE: Final = f"plimsoll/plimsoll-promptfoo:{__version__}"

SERVED_PORT: Final = 8000  # inside the pod and of the private Service; vLLM's own default
MODELS_PATH: Final = "/models"  # where the model volume is mounted


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The operator's own settings, as far as its children show them.

    Attributes:
        operator_image: runs `plimsoll download`.
        promptfoo_image: runs `plimsoll run-test`; has promptfoo beside it.
        image_pull_policy: of every container; None leaves it to Kubernetes.
        cluster_domain: the DNS suffix of Services.
    """

    operator_image: str = DEFAULT_OPERATOR_IMAGE
    promptfoo_image: str = DEFAULT_PROMPTFOO_IMAGE
    vllm_image: str = DEFAULT_VLLM_IMAGE
    vllm_cpu_image: str = DEFAULT_VLLM_CPU_IMAGE
    hub_endpoint: str = DEFAULT_HUB_ENDPOINT
    image_pull_policy: str | None = None
    cluster_domain: str = "cluster.local"


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """One ModelDeployment with a plan."""

    deployment: ModelDeployment
    plan: PlanStatus
    settings: Settings

    @property
    def name(self) -> str:
        """metadata.name of the ModelDeployment."""
        return self.deployment.name

    @property
    def spec(self) -> ModelDeploymentSpec:
        """The user's spec."""
        return self.deployment.spec

    @property
    def pod(self) -> PodSpec:
        """The user's pod settings, empty where there are none."""
        return self.spec.pod or PodSpec()

    @property
    def storage(self) -> StorageSpec:
        """The user's wishes for the volume, empty where there are none."""
        return self.spec.storage or StorageSpec()

    @property
    def promptfoo(self) -> PromptfooSpec:
        """The user's suite, empty where there is none."""
        return (self.spec.test.promptfoo if self.spec.test is not None else None) or PromptfooSpec()

    @property
    def claim_name(self) -> str:
        """The claim that the pods mount: the user's own, or ours."""
        return self.storage.existing_claim or volume_claim_name(self.name)

    @property
    def served_model_name(self) -> str:
        """The name under which clients ask for the model."""
        engine = self.spec.engine
        return (engine.served_model_name if engine is not None else None) or self.plan.model_id

    @property
    def model_path(self) -> str:
        """The folder of the planned commit, as the pods see it."""
        return f"{MODELS_PATH}/{model_folder(self.plan.model_id, self.plan.commit)}"
