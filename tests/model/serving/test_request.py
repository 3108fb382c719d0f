"""What reading a request promises: every format gives the same cells, and whatever else is sent gets one sentence."""

import asyncio
import base64
import io
import itertools
import json
import random
from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from starlette.requests import Request

from cygnet.model.serving.request import JSON, PARQUET, RequestError, encoded_image, read_body, receive_body
from support.toys import LIMITS

ONE, OTHER = b"\x89PNG one" + bytes(range(256)), b"\xff\xd8\xff other"
TEXTS = [base64.b64encode(image).decode() for image in (ONE, OTHER)]


def parquet(column: pa.Array, name: str = "image", **options: Any) -> bytes:
    file = io.BytesIO()
    pq.write_table(pa.table({name: column}), file, **options)
    return file.getvalue()


def cells_of(body: Any) -> list[Any]:
    return read_body(json.dumps(body).encode(), JSON, LIMITS)[0]


def refusal(body: bytes, content_type: str | None = JSON) -> str:
    with pytest.raises(RequestError) as refused:
        read_body(body, content_type, LIMITS)
    assert refused.value.get_http_status_code() == 400
    assert refused.value.message.endswith(".")
    assert "\n" not in refused.value.message
    return refused.value.message


@pytest.mark.parametrize(
    "body",
    [
        {"dataframe_split": {"columns": ["image"], "data": [[TEXTS[0]], [TEXTS[1]]]}},
        {"dataframe_split": {"index": [4, 9], "columns": ["n", "image"], "data": [[1, TEXTS[0]], [2, TEXTS[1]]]}},
        {"dataframe_records": [{"image": TEXTS[0]}, {"n": 1, "image": TEXTS[1]}]},
        *[
            {name: table}
            for name in ("inputs", "instances")
            for table in ([{"image": TEXTS[0]}, {"image": TEXTS[1]}], {"image": TEXTS}, TEXTS)
        ],
    ],
    ids=lambda body: f"{next(iter(body))}-{type(next(iter(body.values()))).__name__}",
)
def test_every_json_format_gives_the_images(body: dict[str, Any]) -> None:
    assert [encoded_image(cell) for cell in cells_of(body)] == [ONE, OTHER]


@pytest.mark.parametrize("type_of_column", [pa.binary(), pa.large_binary()])
@pytest.mark.parametrize("options", [{}, {"use_dictionary": False}, {"compression": "zstd"}, {"row_group_size": 1}])
def test_parquet_gives_the_images(type_of_column: pa.DataType, options: dict[str, Any]) -> None:
    column = pa.array([ONE, OTHER, None, ONE], type_of_column)
    assert read_body(parquet(column, **options), PARQUET, LIMITS) == ([ONE, OTHER, None, ONE], {})


def test_parquet_of_pandas_gives_the_images() -> None:
    body = pd.DataFrame({"image": [ONE, OTHER]}, index=["a", "b"]).to_parquet()
    assert read_body(body, PARQUET, LIMITS)[0] == [ONE, OTHER]


def test_parameters_are_passed_on_and_others_refused() -> None:
    body = {"inputs": [], "params": {"threshold": 0.3, "heatmap": True}}
    assert read_body(json.dumps(body).encode(), JSON, LIMITS) == ([], body["params"])
    assert read_body(b'{"inputs": [], "params": null}', f"{JSON}; charset=UTF-8", LIMITS) == ([], {})
    for params in ({"treshold": 0.3}, [1], "cropped", 7):
        assert "cropped, threshold, heatmap" in refusal(json.dumps({"inputs": [], "params": params}).encode())


@pytest.mark.parametrize(
    ("cell", "image"),
    [
        (TEXTS[0], ONE),
        (f" {TEXTS[0][:60]}\n{TEXTS[0][60:]}\n", ONE),
        (ONE, ONE),
        (TEXTS[0].encode(), ONE),
        (np.bytes_(TEXTS[0].encode()), ONE),
        ("", b""),
    ],
    ids=["text", "text in lines", "bytes", "text as bytes", "text as numpy bytes", "empty"],
)
def test_cell_is_base64_or_bytes(cell: Any, image: bytes) -> None:
    assert encoded_image(cell) == image
    assert type(encoded_image(cell)) is bytes


@pytest.mark.parametrize(
    ("cell", "reason"),
    [
        (None, "the cell is null"),
        ("data:image/png;base64,AAAA", "not valid base64"),
        ("äöü", "not valid base64"),
        ("AAA", "not valid base64"),
        (7, "is a int"),
        ([TEXTS[0]], "is a list"),
        ({"b64": TEXTS[0]}, "is a dict"),
    ],
)
def test_cell_that_is_neither_says_so(cell: Any, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        encoded_image(cell)


DEEP = b'{"inputs": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"


@pytest.mark.parametrize(
    "body",
    [
        *[b"", b"{", b"\xff\xfe\x00", b"\x00" * 99, b'{"inputs": [1', DEEP, b'{"inputs": [' + b"9" * 5000 + b"]}"],
        *[b"null", b"3", b'"text"', b"[]", b"{}", b'{"outputs": []}', b'{"inputs": [], "instances": []}'],
        *[b'{"inputs": null}', b'{"inputs": 3}', b'{"inputs": "text"}', b'{"inputs": {}}'],
        *[b'{"inputs": {"image": "text"}}', b'{"instances": {"picture": []}}', b'{"inputs": [{"image": ""}, 3]}'],
        *[b'{"dataframe_records": [{"picture": ""}]}', b'{"dataframe_split": []}', b'{"dataframe_split": {}}'],
        b'{"dataframe_split": {"columns": "image", "data": []}}',
        b'{"dataframe_split": {"columns": [["image"]], "data": []}}',
        b'{"dataframe_split": {"columns": ["image", "image"], "data": []}}',
        b'{"dataframe_split": {"columns": ["image"], "data": {"image": ""}}}',
        b'{"dataframe_split": {"columns": ["n", "image"], "data": [[1, ""], [2]]}}',
        b'{"dataframe_split": {"columns": ["image"], "data": ["text"]}}',
        b'{"dataframe_split": {"data": [["text"]]}}',
    ],
    ids=lambda body: body[:40].decode(errors="replace"),
)
def test_json_that_is_no_request_gets_a_sentence(body: bytes) -> None:
    assert "JSON" in refusal(body)


@pytest.mark.parametrize(
    "content_type", [None, "", ";", "text/csv", "text/html", "multipart/form-data", "\xff", "json"]
)
def test_other_content_types_are_refused_with_those_that_are_taken(content_type: str | None) -> None:
    assert "application/json or application/vnd.apache.parquet" in refusal(b"{}", content_type)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "not valid Parquet"),
        (b"PAR1" + b"\x00" * 99 + b"PAR1", "not valid Parquet"),
        (parquet(pa.array([ONE]))[:-20], "not valid Parquet"),
        (parquet(pa.array([ONE]), "picture"), "not valid Parquet with a binary column 'image'"),
        (parquet(pa.array([1.5])), "not valid Parquet"),
        (parquet(pa.array([[ONE]])), "not valid Parquet"),
        (parquet(pa.nulls(LIMITS.request_rows + 1, pa.binary())), "51 rows"),
        (parquet(pa.array([bytes(LIMITS.request_bytes)], pa.binary()), compression="gzip"), "bytes unpacked"),
    ],
)
def test_parquet_that_is_no_request_gets_a_sentence(body: bytes, said: str) -> None:
    assert said in refusal(body, PARQUET)


def test_repeated_value_of_parquet_is_unpacked_once() -> None:
    image = bytes(LIMITS.request_bytes // 2)
    cells, _ = read_body(parquet(pa.array([image] * 50, pa.binary()), compression="gzip"), PARQUET, LIMITS)
    assert len(cells) == 50
    assert len({id(cell) for cell in cells}) == 1


def receive(chunks: Iterable[bytes], **headers: str) -> tuple[bytes, int]:
    """Receive a body in chunks; give it, and how many chunks were asked for."""
    sent, asked = iter(chunks), 0

    async def next_message() -> dict[str, Any]:
        nonlocal asked
        asked += 1
        chunk = next(sent, None)
        return {"type": "http.request", "body": chunk or b"", "more_body": chunk is not None}

    named = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    request = Request({"type": "http", "headers": named}, next_message)
    try:
        return asyncio.run(receive_body(request, LIMITS)), asked
    except RequestError as refused:
        return refused.message.encode(), asked


def test_body_of_the_limit_is_received_whole() -> None:
    chunks = [b"a" * (LIMITS.request_bytes // 2), b"b" * (LIMITS.request_bytes // 2)]
    assert receive(chunks)[0] == receive(chunks, content_length=str(LIMITS.request_bytes))[0] == b"".join(chunks)
    assert receive([])[0] == b""


def test_body_without_an_end_is_cut_off_at_the_limit() -> None:
    said, asked = receive(itertools.repeat(b" " * (LIMITS.request_bytes // 4)))
    assert b"longer than 2000000 bytes" in said
    assert asked == 5


def test_body_that_is_declared_too_long_is_refused_unread() -> None:
    said, asked = receive(itertools.repeat(b" "), content_length=str(LIMITS.request_bytes + 1))
    assert b"longer than 2000000 bytes" in said
    assert asked == 0


@pytest.mark.parametrize("content_type", [JSON, PARQUET])
def test_mutations_of_good_requests_are_read_or_refused(content_type: str) -> None:
    good = {
        JSON: json.dumps({"dataframe_split": {"columns": ["image"], "data": [[TEXTS[0]]]}, "params": {}}).encode(),
        PARQUET: parquet(pa.array([ONE, OTHER, None])),
    }[content_type]
    rng, read = random.Random(0), 0  # noqa: S311 - no secret
    for _ in range(400):
        body = bytearray(good)
        for _ in range(rng.randint(1, 4)):
            place = rng.randrange(len(body))
            body[place : place + rng.choice((0, 1, 1, 8))] = rng.randbytes(rng.choice((0, 1, 1, 4)))
        try:
            cells, params = read_body(bytes(body), content_type, LIMITS)
        except RequestError:
            continue
        read += 1
        assert isinstance(cells, list)
        assert isinstance(params, dict)
    assert 0 < read < 400
