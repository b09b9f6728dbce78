"""What every type of the custom resource shares: camelCase names, deep immutability, texts with a sentence."""

from __future__ import annotations

import re
from typing import Annotated, Any, Final

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, JsonValue
from pydantic.alias_generators import to_camel
from pydantic_core import PydanticCustomError

# JSON numbers are exact up to here in every client (a 64-bit float's mantissa); as bytes it is 8 PiB.
MAX_SAFE_INTEGER: Final = 2**53 - 1


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


def rule(expression: str, message: str, *, field: str | None = None) -> dict[str, JsonValue]:
    """One CEL rule of the custom resource (x-kubernetes-validations).

    Args:
        expression: CEL over `self` (and `oldSelf`, which makes it a rule on updates).
        message: a clause that ends with the way out; the API server puts path and value before it.
        field: the path below `self` to blame, such as ".existingClaim".
    """
    found: dict[str, JsonValue] = {"rule": expression, "message": message}
    if field is not None:
        found["fieldPath"] = field
    return found


class Worded:
    """A pattern that answers with a sentence instead of a regular expression.

    Inside it is checked here, in the custom resource it becomes a CEL rule with the same message.
    """

    def __init__(self, pattern: str, says: str) -> None:
        """Take a pattern that RE2 and Python read alike, and the clause that follows path and value."""
        self.pattern = pattern
        self.says = says
        self._compiled = re.compile(pattern)

    def check(self, value: str) -> str:
        """Return the value if it matches.

        Raises:
            PydanticCustomError: it does not.
        """
        if self._compiled.fullmatch(value) is None:
            raise PydanticCustomError("pattern", "{says}", {"says": self.says})
        return value

    def schema(self) -> dict[str, Any]:
        """The CEL rule."""
        escaped = self.pattern.replace("\\", "\\\\").replace("'", "\\'")
        return {"x-kubernetes-validations": [rule(f"self.matches('{escaped}')", self.says)]}


OBJECT_NAME: Final = Worded(
    r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*$",
    "must be the name of a Kubernetes object: lower case letters, digits, '-' and '.', beginning and ending with "
    "a letter or a digit",
)
DATA_KEY: Final = Worded(
    r"^[-._a-zA-Z0-9]+$", "must be a key of a Secret or a ConfigMap: letters, digits, '-', '_' and '.'"
)
QUANTITY: Final = Worded(
    r"^([0-9]+([.][0-9]*)?|[.][0-9]+)([numkMGTPE]|[KMGTPE]i|[eE][+-]?[0-9]+)?$",
    "must be a quantity: write a number that is not negative with a unit, such as 4Gi or 500m",
)

# A Kubernetes object name used as a reference (Secret, ConfigMap, claim): a DNS subdomain.
ObjectName = Annotated[
    str,
    Field(min_length=1, max_length=253, json_schema_extra=OBJECT_NAME.schema()),
    AfterValidator(OBJECT_NAME.check),
]
DataKey = Annotated[
    str,
    Field(min_length=1, max_length=253, json_schema_extra=DATA_KEY.schema()),
    AfterValidator(DATA_KEY.check),
]


def _quantity_text(value: Any) -> Any:
    """YAML reads `cpu: 4` as a number, and Kubernetes takes it for the quantity "4"."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


# apimachinery's resource.Quantity, as it may stand in a manifest: a text, or a whole number.
QuantityText = Annotated[
    str,
    Field(
        min_length=1,
        max_length=40,
        json_schema_extra={
            "x-kubernetes-int-or-string": True,
            "x-kubernetes-validations": [
                rule(f"type(self) == int ? self >= 0 : self.matches('{QUANTITY.pattern}')", QUANTITY.says)
            ],
        },
    ),
    BeforeValidator(_quantity_text),
    AfterValidator(QUANTITY.check),
]
