"""The base class of all parameter models, and the types that several of them use."""

from typing import Annotated, Any, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, model_validator

Number = TypeVar("Number", int, float)

Between = tuple[Number, Number]
"""A range [low, high]; both ends lie within the bounds of the number's type."""

Fraction = Annotated[float, Field(ge=0, le=1)]
Share = Annotated[float, Field(gt=0, le=1)]
"""A fraction that must not be 0."""

Seed = Annotated[int, Field(ge=0, lt=2**32)]
Quality = Annotated[int, Field(ge=50, le=100)]
"""JPEG quality."""


class Parameters(BaseModel):
    """Base of all parameter models: frozen, no unknown keys, and every pair is a range [low, high]."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _refuse_bools_as_numbers(cls, data: Any) -> Any:
        """Refuse true and false for numbers and names: pydantic would read true as 1."""
        for name, field in cls.model_fields.items():
            if isinstance(data, dict) and isinstance(data.get(name), bool) and field.annotation is not bool:
                msg = f"{name} is {data[name]}, but must be a number or a name"
                raise ValueError(msg)
        return data

    @model_validator(mode="after")
    def _order_pairs(self) -> Self:
        for name, value in self:
            if isinstance(value, tuple) and value[0] > value[1]:
                msg = f"{name} [{value[0]}, {value[1]}] is not a valid range: the first must not exceed the second"
                raise ValueError(msg)
        return self
