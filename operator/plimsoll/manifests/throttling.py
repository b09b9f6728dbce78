"""What an engine that is ended from outside says of its CPU: its own control group counts the periods it was held back in.

Neither the pod's status nor the kubelet's events tell of throttling. The kubelet runs this hook in the container before
it ends one that did not come up in time or answers no more, and what the hook writes is the termination message.
Source: Kubernetes' documentation, Container Lifecycle Hooks (PreStop: also after a failed startup or liveness probe).
"""

from __future__ import annotations

from typing import Any, Final

from plimsoll.manifests.pod_template import TERMINATION_PATH

SAYS: Final = "Plimsoll: the CPU was throttled in"
# Source: Linux, Documentation/admin-guide/cgroup-v2.rst (cpu.stat); version 1 has the same names in a folder of its own.
# More than half of the periods: below that an engine is slow, and not kept from its work.
_SCRIPT: Final = f"""
for file in /sys/fs/cgroup/cpu.stat /sys/fs/cgroup/cpu/cpu.stat; do
  [ -r "$file" ] || continue
  while read -r name value; do
    case "$name" in nr_periods) periods=$value ;; nr_throttled) throttled=$value ;; esac
  done <"$file"
done
if [ "${{throttled:-0}}" -gt "$((${{periods:-0}} / 2))" ]; then
  printf '{SAYS} %s of %s periods\\n' "$throttled" "$periods" >{TERMINATION_PATH}
fi
"""


def throttling_hook() -> dict[str, Any]:
    """The container's `lifecycle`; an image without a shell loses nothing but the words."""
    return {"preStop": {"exec": {"command": ["sh", "-c", _SCRIPT.strip()]}}}
