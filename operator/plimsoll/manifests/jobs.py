"""The frame of both Jobs: one pod at a time, never restarted in place, ended by the runner's exit code."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence


def job(
    metadata: dict[str, Any], template: dict[str, Any], *, final_codes: Sequence[int], retries: int
) -> dict[str, Any]:
    """A Job.

    Args:
        metadata: of the Job.
        template: of its pod.
        final_codes: exit codes that no retry mends.
        retries: of all others; a pod that was evicted or preempted does not count.
    """
    template = {**template, "spec": {**template["spec"], "restartPolicy": "Never"}}
    container = template["spec"]["containers"][0]["name"]
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": metadata,
        "spec": {
            "backoffLimit": retries,
            "completions": 1,
            "parallelism": 1,
            "podFailurePolicy": {
                "rules": [
                    {
                        "action": "FailJob",
                        "onExitCodes": {
                            "containerName": container,
                            "operator": "In",
                            "values": sorted(final_codes),  # the API server wants them so
                        },
                    },
                    {
                        "action": "Ignore",
                        "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}],
                    },
                ]
            },
            "template": template,
        },
    }
