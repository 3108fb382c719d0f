"""`conf/*/parameters_serving.yml`."""

from typing import Any, Literal

from pydantic import Field, model_validator

from cygnet.parameters.base import Fraction, Parameters


class Gate(Parameters):
    """What a challenger must reach on `test` to become the champion, and whether a miss stops the promotion."""

    mode: Literal["enforce", "report", "off"]
    min_auroc: Fraction
    max_normal_p99: Fraction
    max_false_alarm_frac: Fraction
    max_auroc_loss: Fraction
    max_abs_score_difference: float = Field(gt=0, le=1)

    @model_validator(mode="before")
    @classmethod
    def _off_is_a_word(cls, data: Any) -> Any:
        """YAML reads a bare `off` as false."""
        return {**data, "mode": "off"} if isinstance(data, dict) and data.get("mode") is False else data


class Client(Parameters):
    """How requests are sent to the endpoint: time-outs, retries, size, concurrency."""

    timeout_s: float = Field(gt=0, le=3600)
    retries: int = Field(ge=0, le=20)
    backoff_s: float = Field(ge=0, le=60)
    max_request_bytes: int = Field(ge=1000, le=16_000_000)
    in_flight: int = Field(ge=1, le=64)


RuntimeName = Literal["torch", "torch_bf16", "onnx", "onnx_int8"]


class RequestLimits(Parameters):
    """The largest requests that the served model accepts."""

    request_rows: int = Field(ge=1, le=10_000)
    request_bytes: int = Field(ge=1000, le=1_000_000_000)
    request_px: int = Field(ge=1000, le=10_000_000_000)
    image_bytes: int = Field(ge=1000, le=1_000_000_000)
    image_px: int = Field(ge=1000, le=80_000_000)


class Parity(Parameters):
    """How far the scores of `runtime` may differ from those of torch in float32, and on how many test images."""

    images_per_kind: int = Field(ge=1, le=1_000_000)
    max_abs_score_difference: float = Field(gt=0, le=1)
    max_mean_abs_score_difference: float = Field(gt=0, le=1)
    min_decisions_agree_frac: Fraction
    max_auroc_loss: Fraction


class Serving(Parameters):
    """`params:serving`: the runtime and limits of the served model, the client, and the gate."""

    runtime: RuntimeName
    limits: RequestLimits
    parity: Parity
    batch_size: int = Field(ge=1, le=100)
    client: Client
    gate: Gate
