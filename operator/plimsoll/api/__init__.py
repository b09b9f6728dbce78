"""The custom resource: pydantic types, conditions and reasons, the CRD made from them. Pure: no I/O, no clock."""

from __future__ import annotations

from typing import Final

GROUP: Final = "plimsoll.dev"
VERSION: Final = "v1alpha1"
API_VERSION: Final = f"{GROUP}/{VERSION}"
KIND: Final = "ModelDeployment"
PLURAL: Final = "modeldeployments"
SINGULAR: Final = "modeldeployment"
SHORT_NAME: Final = "mdeploy"
CATEGORY: Final = "plimsoll"
