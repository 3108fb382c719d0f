"""Bodies of requests, good and hostile: truncated, mutated, of wrong types, of huge numbers, bombs, garbage.

A hostile body follows from the seed and its number alone. `benchmarks.hostile` sends thousands of them, and
`tests/model/test_scoring_server.py` some.
"""

import base64
import io
import json
import random
import select
import socket
import zlib
from collections.abc import Callable
from functools import cache
from math import isqrt
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from cygnet.model.serving.request import JSON, PARQUET
from cygnet.model.serving.scorer import Limits
from cygnet.vision.codec import encode_jpeg, encode_png

KEYS = ["dataframe_split", "dataframe_records", "inputs", "instances", "params", "image", "columns", "data", "index"]
KEYS += ["threshold", "cropped", "heatmap", ""]
Request = tuple[bytes, str]  # body and content type


def request_of(encoded: list[bytes], **params: Any) -> bytes:
    """Write a request for encoded images."""
    rows = [[base64.b64encode(image).decode()] for image in encoded]
    return json.dumps({"dataframe_split": {"columns": ["image"], "data": rows}, "params": params}).encode()


def status_of_endless(url: str, *, chunked: bool) -> int:
    """Send a body that never ends, or say that a terabyte will come; give the status that is answered all the same."""
    address = urlsplit(url)
    length = "Transfer-Encoding: chunked" if chunked else f"Content-Length: {10**12}"
    head = f"POST {address.path} HTTP/1.1\r\nHost: {address.netloc}\r\nContent-Type: {JSON}\r\n{length}\r\n\r\n"
    megabyte = b"100000\r\n" + b" " * 0x100000 + b"\r\n" if chunked else b" " * 0x100000
    with socket.create_connection((address.hostname, address.port), timeout=60) as connection:
        connection.sendall(head.encode())
        for _ in range(200):  # a server that takes so many will take any
            if select.select([connection], [], [], 0)[0]:
                break
            connection.sendall(megabyte)
        return int(connection.recv(4096).split()[1])


def hostile_request(number: int, limits: Limits, seed: int = 4) -> Request:
    """Make a body and its content type, of each sort in turn."""
    sorts = list(SORTS.values())
    return sorts[number % len(sorts)](random.Random(f"{seed}/{number}"), limits)  # noqa: S311 - no secret


def _truncated(rng: random.Random, _: Limits) -> Request:
    body, content_type = rng.choice(_good())
    return body[: rng.randrange(len(body))], content_type


def _of_wrong_types(rng: random.Random, _: Limits) -> Request:
    numbers = [True, -1, 1.5, 1e308, float("nan"), float("inf")]
    leaves: list[Any] = [None, *numbers, "", "image", "\ud800", "AAAA", _text(), [], {}]

    def value(depth: int) -> Any:
        if depth > 4 or rng.random() < 0.25:
            return rng.choice(leaves)
        if rng.random() < 0.5:
            return [value(depth + 1) for _ in range(rng.randrange(3))]
        return {rng.choice(KEYS): value(depth + 1) for _ in range(rng.randrange(4))}

    return json.dumps(rng.choice([value(0), {rng.choice(KEYS[:4]): value(1), "params": value(2)}])).encode(), JSON


def _of_huge_numbers(rng: random.Random, limits: Limits) -> Request:
    many = rng.randrange(limits.request_rows, limits.request_bytes // 100)
    number = rng.choice(["9" * many, "1e999", "-1e999", f"0.{'0' * many}1", f"1{'0' * 400}", str(2**70), "NaN"])
    table = rng.choice([f"[{number}]", f"[[{number}]]", f'{{"image": [{number}]}}', f"[{'1,' * many}{number}]"])
    deep = "[" * many + number + "]" * rng.choice([0, many])
    body = f'{{"inputs": {rng.choice([table, deep, "[]"])}, "params": {{"threshold": {number}}}}}'
    return body.encode(), JSON


def _bomb(rng: random.Random, limits: Limits) -> Request:
    """Images that are much larger than their bytes: in their header alone, or in truth, one or many."""
    side_px = isqrt(limits.image_px)
    sort = rng.random()
    if sort < 0.7:
        promised = [_promised(rng.randrange(1, 2 ** rng.randrange(12, 31)), rng.randrange(1, 70_000)) for _ in range(3)]
        body, content_type = request_of([*promised, _small()], heatmap=rng.random() < 0.3), JSON
    elif sort < 0.8:
        body, content_type = _repeated(limits.request_bytes // 2, rng.choice([1, limits.request_rows, 10**6])), PARQUET
    else:
        images = [_black(side_px + rng.choice([-1, 0, 1])) for _ in range(rng.choice([1, 1, 2, 20]))]
        body, content_type = request_of(images, heatmap=rng.random() < 0.3, cropped=rng.random() < 0.5), JSON
    return body, content_type


def _of_garbage_base64(rng: random.Random, _: Limits) -> Request:
    text = _text()
    cells = [
        "".join(rng.choices("ABCxyz019+/=-_ \n\t\u00e4\u4e2d", k=rng.randrange(200))),
        text[: rng.randrange(len(text))],
        text.replace(rng.choice(text), rng.choice("=!_\x00")),
        f"data:image/jpeg;base64,{text}",
        base64.b64encode(rng.randbytes(rng.randrange(1000))).decode(),
        base64.b64encode(mutated(rng, rng.choice([_small(), _black(64)]))).decode(),
    ]
    rng.shuffle(cells)
    return json.dumps({rng.choice(["inputs", "instances"]): [*cells, text]}).encode(), JSON


def _of_wrong_content_type(rng: random.Random, _: Limits) -> Request:
    body, _right = rng.choice(_good())
    named = ["", "text/csv", "text/html; charset=utf-16", "multipart/form-data; boundary=x", "application/x-pickle"]
    drawn = "".join(rng.choices("application/jsonvdcptxml;= ", k=rng.randrange(40))).strip()
    return body, rng.choice([*named, drawn, JSON, PARQUET])


def _mutation(rng: random.Random, _: Limits) -> Request:
    body, content_type = rng.choice(_good())
    return mutated(rng, body), content_type


SORTS: dict[str, Callable[[random.Random, Limits], Request]] = {
    "truncated": _truncated,
    "wrong types": _of_wrong_types,
    "huge numbers": _of_huge_numbers,
    "bombs": _bomb,
    "garbage base64": _of_garbage_base64,
    "wrong content types": _of_wrong_content_type,
    "mutations": _mutation,
}


def mutated(rng: random.Random, body: bytes) -> bytes:
    """Change, remove or insert some bytes."""
    changed = bytearray(body)
    for _ in range(rng.randint(1, 5)):
        place = rng.randrange(len(changed) + 1)
        changed[place : place + rng.choice((0, 1, 1, 50))] = rng.randbytes(rng.choice((0, 1, 1, 20)))
    return bytes(changed)


@cache
def _small() -> bytes:
    return encode_jpeg(np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8), 90)


@cache
def _text() -> str:
    return base64.b64encode(_small()).decode()


@cache
def _good() -> list[Request]:
    """Good requests of every format."""
    packed = io.BytesIO()
    pd.DataFrame({"image": [_small(), None]}).to_parquet(packed)
    tables = {"dataframe_records": [{"image": _text()}], "inputs": [_text()], "instances": {"image": [_text()]}}
    bodies = [json.dumps({name: table, "params": {"threshold": 0.5}}).encode() for name, table in tables.items()]
    return [
        (packed.getvalue(), PARQUET),
        (request_of([_small()], heatmap=True), JSON),
        *((each, JSON) for each in bodies),
    ]


@cache
def _black(side_px: int) -> bytes:
    return encode_png(np.zeros((side_px, side_px), np.uint8))


@cache
def _repeated(size_bytes: int, rows: int) -> bytes:
    """Write a Parquet in which every row is the same long value."""
    values = pa.array([bytes(size_bytes)], pa.binary())
    column = pa.DictionaryArray.from_arrays(pa.array(np.zeros(rows, np.int32)), values)
    packed = io.BytesIO()
    pq.write_table(pa.table({"image": column}), packed, compression="gzip")
    return packed.getvalue()


def _promised(width_px: int, height_px: int) -> bytes:
    """Write a PNG whose header promises pixels that nobody has packed."""
    encoded = bytearray(_black(8))
    encoded[16:24] = width_px.to_bytes(4, "big") + height_px.to_bytes(4, "big")
    encoded[29:33] = zlib.crc32(encoded[12:29]).to_bytes(4, "big")
    return bytes(encoded)
