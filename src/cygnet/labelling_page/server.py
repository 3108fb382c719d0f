"""Serves the page to the browser of this machine, and to nobody else.

Starlette and uvicorn, because MLflow and kedro-viz bring them: no new library, and nothing of a framework's own scripts and
styles, which Gradio or NiceGUI would put between a key and its answer. The page is one file each of HTML, CSS and
JavaScript, without a build step and without the network.

Any website that is open in the same browser can send requests to this machine. So the server listens on loopback alone;
takes requests for its own host names only, which a name that is rebound to 127.0.0.1 is not; and takes answers as JSON only,
which a browser sends from other sites after asking, and it is refused.
"""

import json
import secrets
import sys
import webbrowser
from contextlib import suppress
from pathlib import Path
from socket import create_server
from typing import Any

import click
import pandas as pd
import pyarrow.compute as pc
import pyarrow.dataset as pad
import uvicorn
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route

from cygnet.datasets.table import TableDataset
from cygnet.errors import UserError
from cygnet.labelling_page.frames import PageFrames, open_frames
from cygnet.labelling_page.labels_file import FrameNames, LabelsFile
from cygnet.tables import LABELS, SOURCES, parse_frame_id

LOOPBACK = "127.0.0.1"
HOSTS = [LOOPBACK, "localhost"]
FOLDER = Path(__file__).parent
PAGE = {"/": "page.html", "/page.css": "page.css", "/page.js": "page.js"}

MOST_ANSWER_BYTES = 1000
"""An answer names the first and the last frame, so it is short, however many it labels."""

HEADERS = {
    "Content-Security-Policy": "default-src 'none'; img-src 'self' data:; style-src 'self'; script-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}
UNCHANGING = {"Cache-Control": "private, max-age=86400, immutable"}


def serve(catalog: Any, port: int) -> None:
    """Serve the page until Ctrl-C.

    Args:
        catalog: Kedro's, with `frames`, `images`, `scores`, `labels` and `videos`.
        port: On loopback.

    Raises:
        UserError: There are no frames, the labels can't be read or are ranges of time, the names of image files are
            not known, or the port is in use.
    """
    app = make_app(*open_catalog(catalog))
    try:
        listening = create_server((LOOPBACK, port))
    except OSError as error:
        msg = f"Port {port} of this machine can't be used ({error.strerror}): choose another with --port."
        raise UserError(msg) from error
    url = f"http://{LOOPBACK}:{port}"
    click.echo(f"Label frames at {url} (Ctrl-C ends it; every answer is saved).")
    if sys.stdout.isatty():
        webbrowser.open(url)
    with listening, suppress(KeyboardInterrupt):
        uvicorn.Server(uvicorn.Config(app, log_level="warning", lifespan="off")).run([listening])


def open_catalog(catalog: Any) -> tuple[PageFrames, LabelsFile]:
    """Open the tables and the labels of an environment; raises as `serve`, but for the port."""
    scores = catalog.get("scores")
    frames = open_frames(_open(catalog, "frames"), _open(catalog, "scores") if scores.exists() else None)
    labels = LabelsFile(catalog.get("labels"), FrameNames(frames.table, _named_images(catalog, frames)))
    labels.said()
    return frames, labels


def make_app(frames: PageFrames, labels: LabelsFile) -> Starlette:
    """Make the application: the page, the frames, and what changes the labels."""
    version = secrets.token_hex(4)  # of the addresses of pictures: another start may have other frames
    sources = frames.table["source"].tolist()

    def state(_: Request) -> Response:
        return JSONResponse(_describe(frames) | {"version": version, "labels": labels.said()})

    def picture(request: Request) -> Response:
        return Response(frames.picture(_number(request)), media_type="image/jpeg", headers=UNCHANGING)

    def overlay(request: Request) -> Response:
        drawn = frames.overlay(_number(request))
        if drawn is None:
            raise HTTPException(404)
        return Response(drawn, media_type="image/png", headers=UNCHANGING)

    def _number(request: Request) -> int:
        number: int = request.path_params["number"]
        if number >= len(sources):
            raise HTTPException(404)
        return number

    async def answer(request: Request) -> Response:
        said = await _read_json(request)
        first, last, label = said.get("first"), said.get("last"), said.get("label")
        if type(first) is not int or type(last) is not int or not 0 <= first <= last < len(sources):
            raise HTTPException(422, "first and last must be numbers of frames")
        if label not in LABELS or sources[first] != sources[last]:
            raise HTTPException(422, "one label, of frames of one source")
        return JSONResponse(await run_in_threadpool(labels.answer, first, last, label))

    async def undo(request: Request) -> Response:
        await _read_json(request)
        return JSONResponse(await run_in_threadpool(labels.undo))

    return Starlette(
        routes=[
            *(Route(path, _file_endpoint(name)) for path, name in PAGE.items()),
            Route("/state", state),
            Route("/frames/{number:int}/picture", picture),
            Route("/frames/{number:int}/map", overlay),
            Route("/answer", answer, methods=["POST"]),
            Route("/undo", undo, methods=["POST"]),
        ],
        middleware=[
            Middleware(TrustedHostMiddleware, allowed_hosts=HOSTS, www_redirect=False),
            Middleware(BaseHTTPMiddleware, dispatch=_add_headers),
        ],
        exception_handlers={UserError: _explain},
    )


def _describe(frames: PageFrames) -> dict[str, Any]:
    """Describe all frames by columns, which is short: 30 bytes a frame."""
    table = frames.table
    scores = table["anomaly_score"].astype(float).round(4)
    firsts = table.groupby("source", sort=False)["frame_index"].agg("size")
    return {
        "sources": [{"name": name, "count": int(count)} for name, count in firsts.items()],
        "indices": table["frame_index"].tolist(),
        "times_s": table["timestamp_s"].round(3).tolist(),
        "scores": scores.astype(object).where(scores.notna(), None).tolist(),
        "threshold": frames.threshold(),
        "orders": frames.orders(),
    }


def _open(catalog: Any, name: str) -> pad.Dataset:
    """Open a table without Spark, whatever the catalog loads it as."""
    return TableDataset(filepath=catalog.get(name).folder, table=name, load_as="arrow").load()


def _named_images(catalog: Any, frames: PageFrames) -> pd.DataFrame:
    """List the sources that are folders of images: `SOURCES`. Only of these does `videos` have to name the files."""
    none = pd.DataFrame(columns=SOURCES.names)
    if not catalog.get("images").exists():
        return none
    images = _open(catalog, "images").to_table(columns=["frame_id"], filter=pc.field("timestamp_s").is_null())
    folders = {parse_frame_id(frame_id)[0] for frame_id in images["frame_id"].to_pylist()} & set(frames.table["source"])
    if not folders:
        return none
    sources = catalog.get("videos").load()
    missing = folders - set(sources["source"])
    if missing:
        msg = (
            f"The frames of '{min(missing)}' are images, and their files are not in this run's video: pass "
            "--params=video=PATH as ingestion had it."
        )
        raise UserError(msg)
    return sources[sources["source"].isin(folders)]


def _file_endpoint(name: str) -> Any:
    def endpoint(_: Request) -> Response:
        return FileResponse(FOLDER / name, headers={"Cache-Control": "no-cache"})

    return endpoint


async def _read_json(request: Request) -> dict[str, Any]:
    """Read a small JSON object; refuse anything else before it is read to its end."""
    if request.headers.get("content-type") != "application/json":
        raise HTTPException(415, "only application/json")
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > MOST_ANSWER_BYTES:
            raise HTTPException(413, f"more than {MOST_ANSWER_BYTES} bytes")
    try:
        said = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise HTTPException(422, "not JSON") from error
    if not isinstance(said, dict):
        raise HTTPException(422, "not a JSON object")
    return said


async def _add_headers(request: Request, call_next: RequestResponseEndpoint) -> Response:
    response = await call_next(request)
    response.headers.update(HEADERS)
    return response


def _explain(_: Request, error: Exception) -> Response:
    return JSONResponse({"error": str(error)}, status_code=409)
