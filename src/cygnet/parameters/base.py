"""The base class of all parameter models, and the types that several of them use."""

from typing import Annotated, Any, Self, TypeVar, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator, model_validator
from pydantic_core import PydanticCustomError

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

    @field_validator("*", mode="before")
    @classmethod
    def _refuse_bools_as_numbers(cls, value: Any, info: ValidationInfo) -> Any:
        """Refuse true and false for numbers: pydantic would read true as 1."""
        if isinstance(value, bool) and _is_number(cls.model_fields[str(info.field_name)].annotation):
            raise PydanticCustomError("bool_as_number", "Input should be a number")
        return value

    @model_validator(mode="after")
    def _order_pairs(self) -> Self:
        for name, value in self:
            if isinstance(value, tuple) and value[0] > value[1]:
                msg = f"{name} [{value[0]}, {value[1]}] is not a valid range: the first must not exceed the second"
                raise ValueError(msg)
        return self


def _is_number(annotation: Any) -> bool:
    """Tell whether a type is that of a number, also where it allows null too."""
    if get_origin(annotation) in {dict, list, tuple}:
        return False
    return annotation in {int, float} or any(map(_is_number, get_args(annotation)))
