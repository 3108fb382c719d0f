"""Reads requests to an endpoint: images and parameters from untrusted bodies.

The served model replaces the reader of MLflow's scoring server (`cygnet.model.serving.served_model`), because that one

- keeps a body of any length in memory;
- answers 500 to nested brackets, to numbers of 5,000 digits and to a missing content type;
- refuses a whole request for one cell that is not valid base64;
- makes of `inputs` an array in which every row is as wide as the widest: a few megabytes can take all memory.

This one reads the same four JSON formats, and Parquet, within the model's limits.
"""

import base64
import json
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE

from cygnet.model.serving.scorer import Limits

if TYPE_CHECKING:
    from starlette.requests import Request

COLUMN = "image"
PARAMETERS = ("cropped", "threshold", "heatmap")
FORMATS = ("dataframe_split", "dataframe_records", "inputs", "instances")
JSON, PARQUET = "application/json", "application/vnd.apache.parquet"
NO_REQUEST = (
    f"The body must be a JSON object with images in a column '{COLUMN}' of one of {', '.join(FORMATS)}, and optionally "
    f"'params'."
)
NO_PARQUET = f"The body is not valid Parquet with a binary column '{COLUMN}'."


class RequestError(MlflowException):
    """A malformed request: answered with status 400 and this sentence."""

    def __init__(self, sentence: str) -> None:
        super().__init__(sentence, error_code=INVALID_PARAMETER_VALUE)


async def receive_body(request: "Request", limits: Limits) -> bytes:
    """Receive the body of a request, whether its length is declared or not, up to the limit.

    Starlette's own `Request.body` keeps everything that is sent, until memory is full.

    Raises:
        RequestError: The body is longer than the limit.
    """
    too_long = RequestError(
        f"The body is longer than {limits.request_bytes} bytes, which is the limit: send fewer images at once."
    )
    if int(request.headers.get("content-length", 0)) > limits.request_bytes:
        raise too_long
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > limits.request_bytes:
            raise too_long
    return bytes(body)


def read_body(body: bytes, content_type: str | None, limits: Limits) -> tuple[list[Any], dict[str, Any]]:
    """Read the body of a request.

    Returns:
        A cell per row, to be passed to `encoded_image`, and the parameters, of which only the names are checked.

    Raises:
        RequestError: The body is malformed, or Parquet above the limits of a request.
    """
    sent_as = (content_type or "").partition(";")[0].strip().lower()
    if sent_as == PARQUET:
        return _read_parquet(body, limits), {}
    if sent_as != JSON:
        msg = f"The content type is '{sent_as}': send {JSON} or {PARQUET}."
        raise RequestError(msg)
    try:
        request = json.loads(body)
    except (ValueError, RecursionError) as error:
        msg = "The body is not valid JSON."
        raise RequestError(msg) from error
    chosen = [name for name in FORMATS if name in request] if isinstance(request, dict) else []
    if len(chosen) != 1:
        raise RequestError(NO_REQUEST)
    parameters = request.get("params") or {}
    if not isinstance(parameters, dict) or not set(parameters) <= set(PARAMETERS):
        msg = f"The params must be an object with some of {', '.join(PARAMETERS)}."
        raise RequestError(msg)
    table = request[chosen[0]]
    cells = _split_cells(table) if chosen[0] == "dataframe_split" else _cells(table)
    if cells is None:
        raise RequestError(NO_REQUEST)
    return cells, parameters


def encoded_image(cell: Any) -> bytes:
    """Get the encoded image from a cell: bytes, or base64 as text or (as MLflow's own reader leaves it) as bytes.

    Bytes that are valid base64 are taken for it: no image format consists of its letters alone.

    Raises:
        ValueError: The cell is neither.
    """
    if isinstance(cell, str):
        try:
            return base64.b64decode("".join(cell.split()), validate=True)
        except ValueError as error:
            msg = "the text is not valid base64"
            raise ValueError(msg) from error
    if isinstance(cell, bytes):
        try:
            return base64.b64decode(cell, validate=True)
        except ValueError:
            return bytes(cell)
    msg = "the cell is null" if cell is None else f"the image is a {type(cell).__name__}, base64 text is needed"
    raise ValueError(msg)


def _split_cells(table: Any) -> list[Any] | None:
    """Give the column of images of `{"columns": [...], "data": [[...], ...]}`, or None."""
    if not isinstance(table, dict):
        return None
    columns, rows = table.get("columns"), table.get("data")
    if not isinstance(columns, list) or columns.count(COLUMN) != 1 or not isinstance(rows, list):
        return None
    if not all(isinstance(row, list) and len(row) == len(columns) for row in rows):
        return None
    position = columns.index(COLUMN)
    return [row[position] for row in rows]


def _cells(table: Any) -> list[Any] | None:
    """Give the column of images of `{"image": [...]}`, `[{"image": ...}, ...]` or `[...]`, or None."""
    if isinstance(table, dict):
        table = table.get(COLUMN)
    elif isinstance(table, list) and any(isinstance(row, dict) for row in table):
        if not all(isinstance(row, dict) and COLUMN in row for row in table):
            return None
        return [row[COLUMN] for row in table]
    return table if isinstance(table, list) else None


def _read_parquet(body: bytes, limits: Limits) -> list[Any]:
    """Read the column of images as a dictionary, which unpacks a repeated value only once."""
    try:
        file = pq.ParquetFile(pa.BufferReader(body), read_dictionary=[COLUMN])
        groups = [file.metadata.row_group(number) for number in range(file.metadata.num_row_groups)]
        unpacked_bytes = sum(group.total_byte_size for group in groups)
        if file.metadata.num_rows > limits.request_rows or unpacked_bytes > limits.request_bytes:
            msg = (
                f"The body has {file.metadata.num_rows} rows and {unpacked_bytes} bytes unpacked, at most "
                f"{limits.request_rows} and {limits.request_bytes} are allowed: send fewer images at once."
            )
            raise RequestError(msg)
        chunks = file.read(columns=[COLUMN])[COLUMN].chunks
    except (pa.ArrowException, OSError, KeyError) as error:
        raise RequestError(NO_PARQUET) from error
    cells: list[Any] = []
    for chunk in chunks:
        if not isinstance(chunk, pa.DictionaryArray):
            raise RequestError(NO_PARQUET)
        values = chunk.dictionary.to_pylist()
        cells += [None if index is None else values[index] for index in chunk.indices.to_pylist()]
    return cells
