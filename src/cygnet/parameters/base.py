"""What all parameter models share, and the types that several of them use."""

from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
Quality = Annotated[int, Field(ge=50, le=100)]


class Parameters(BaseModel):
    """Base of all parameter models: frozen, no unknown keys, and every pair is a range [low, high]."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _bools_are_no_numbers(cls, data: Any) -> Any:
        for name, field in cls.model_fields.items():
            if isinstance(data, dict) and isinstance(data.get(name), bool) and field.annotation is not bool:
                msg = f"{name} is {data[name]}, a number or a name is needed"
                raise ValueError(msg)
        return data

    @model_validator(mode="after")
    def _pairs_are_ranges(self) -> Self:
        for name, value in self:
            if isinstance(value, tuple) and value[0] > value[1]:
                msg = f"{name} [{value[0]}, {value[1]}] is no range: the first number must not be above the second"
                raise ValueError(msg)
        return self
