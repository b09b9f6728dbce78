"""What every type of the custom resource shares: camelCase names, deep immutability, nothing unknown."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel


class ApiModel(BaseModel):
    """A frozen piece of the custom resource, named in camelCase outside and snake_case inside."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        populate_by_name=True,
        extra="forbid",
        frozen=True,
        use_enum_values=False,
    )

    def to_json(self) -> dict[str, Any]:
        """The object as Kubernetes holds it: camelCase keys, what is unset left out."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)


# A Kubernetes object name used as a reference (Secret, ConfigMap, claim): a DNS subdomain.
ObjectName = Annotated[
    str,
    Field(
        min_length=1,
        max_length=253,
        pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$",
    ),
]
DataKey = Annotated[str, Field(min_length=1, max_length=253, pattern=r"^[-._a-zA-Z0-9]+$")]
# apimachinery's resource.Quantity, as it may stand in a manifest.
QuantityText = Annotated[
    str,
    Field(
        min_length=1,
        max_length=40,
        pattern=r"^([0-9]+(\.[0-9]*)?|\.[0-9]+)([numkMGTPE]|[KMGTPE]i|[eE][+-]?[0-9]+)?$",
    ),
]
