"""A service as AiTEMS tells it, read generously.

Recorded answers differ from documented ones already, so enums are open, unknown fields are kept, and nothing but
``serviceId`` and ``name`` is insisted on. Imports pydantic: loaded where an answer is read whole.

Source: https://api.ncloud-docs.com/docs/en/ai-application-service-aitems-service-create
"""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidatorFunctionWrapHandler, field_validator


class Service(BaseModel):
    """A service as AiTEMS tells it."""

    model_config = ConfigDict(frozen=True, extra="allow")

    service_id: Annotated[str, Field(alias="serviceId", min_length=1)]
    name: str
    description: str | None = None
    type: str | None = None
    status: str | None = None
    datasets: list[Any] | None = None
    hp_config: Annotated[dict[str, Any] | None, Field(alias="hpConfig")] = None
    infers: list[Any] | None = None
    created_date: Annotated[str | None, Field(alias="createdDate")] = None
    updated_date: Annotated[str | None, Field(alias="updatedDate")] = None

    @field_validator("description", "type", "status", "datasets", "hp_config", "infers", "created_date", "updated_date",
                     mode="wrap")  # fmt: skip
    @classmethod
    def _tolerant(cls, value: object, read: ValidatorFunctionWrapHandler) -> object:
        """Read a documented field of an undocumented type as absent; the text that is passed on still has it."""
        try:
            return read(value)
        except ValidationError:
            return None
