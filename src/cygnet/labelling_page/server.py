"""Serves the page to the browser of this machine, and to nobody else.

Starlette and uvicorn, because MLflow and kedro-viz bring them: no new library, and nothing of a framework's own scripts
and styles, which Gradio or NiceGUI would put between a key and its answer. The page is one file each of HTML, CSS and
JavaScript, without a build step and without the network.

Any website that is open in the same browser can send requests to this machine. So the server listens on loopback alone.
It takes requests for its own host names only, which a name that is rebound to 127.0.0.1 is not. And it takes answers as
JSON only, for which a browser asks before it sends them from another site, and is refused.
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
        catalog: Kedro's, with `frames`, `images`, `scores`, `scoring_report`, `labels` and `videos`.
        port: On loopback; 0 chooses a free one.

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
    url = f"http://{LOOPBACK}:{listening.getsockname()[1]}"
    click.echo(f"Label frames at {url} (Ctrl-C ends it; every answer is saved).")
    if sys.stdout.isatty():
        webbrowser.open(url)
    with listening, suppress(KeyboardInterrupt):
        uvicorn.Server(uvicorn.Config(app, log_level="warning", lifespan="off")).run([listening])


def open_catalog(catalog: Any) -> tuple[PageFrames, LabelsFile]:
    """Open the tables and the labels of an environment; raises as `serve`, but for the port."""
    report = catalog.get("scoring_report")
    is_scored = catalog.get("scores").exists() and report.exists()  # the report is written last
    scores, threshold = (_open(catalog, "scores"), report.load()["threshold"]) if is_scored else (None, None)
    frames = open_frames(_open(catalog, "frames"), scores, threshold)
    labels = LabelsFile(catalog.get("labels"), FrameNames(frames.table, _named_images(catalog, frames)))
    labels.said()
    return frames, labels


def make_app(frames: PageFrames, labels: LabelsFile) -> Starlette:
    """Make the application: the page, the frames, and what changes the labels."""
    endpoints = _Endpoints(frames, labels)
    return Starlette(
        routes=[
            *(Route(path, _file_endpoint(name)) for path, name in PAGE.items()),
            Route("/state", endpoints.state),
            Route("/frames/{number:int}/picture", endpoints.picture),
            Route("/frames/{number:int}/map", endpoints.overlay),
            Route("/answer", endpoints.answer, methods=["POST"]),
            Route("/undo", endpoints.undo, methods=["POST"]),
        ],
        middleware=[
            Middleware(TrustedHostMiddleware, allowed_hosts=HOSTS, www_redirect=False),
            Middleware(BaseHTTPMiddleware, dispatch=_add_headers),
        ],
        exception_handlers={UserError: _explain},
    )


class _Endpoints:
    """What the page asks for, besides its own files."""

    def __init__(self, frames: PageFrames, labels: LabelsFile) -> None:
        self._frames = frames
        self._labels = labels
        self._sources = frames.table["source"].tolist()
        self._version = secrets.token_hex(4)  # of the addresses of pictures: another start may have other frames

    def state(self, _: Request) -> Response:
        """Everything about all frames but their pixels."""
        said = {"version": self._version, "labels": self._labels.said()}
        return JSONResponse(_describe(self._frames) | said)

    def picture(self, request: Request) -> Response:
        """A frame."""
        return Response(self._frames.picture(self._number(request)), media_type="image/jpeg", headers=UNCHANGING)

    def overlay(self, request: Request) -> Response:
        """A frame's anomaly map."""
        drawn = self._frames.overlay(self._number(request))
        if drawn is None:
            raise HTTPException(404)
        return Response(drawn, media_type="image/png", headers=UNCHANGING)

    async def answer(self, request: Request) -> Response:
        """Label the frames from `first` to `last`; say what is said of them now."""
        said = await _read_json(request)
        first, last, label = said.get("first"), said.get("last"), said.get("label")
        if type(first) is not int or type(last) is not int or not 0 <= first <= last < len(self._sources):
            raise HTTPException(422, "first and last must be numbers of frames")
        if label not in tuple(LABELS) or self._sources[first] != self._sources[last]:
            raise HTTPException(422, "one label, of frames of one source")
        return JSONResponse(await run_in_threadpool(self._labels.answer, first, last, str(label)))

    async def undo(self, request: Request) -> Response:
        """Take the last answer back; say what is said of its frames now."""
        await _read_json(request)
        return JSONResponse(await run_in_threadpool(self._labels.undo))

    def _number(self, request: Request) -> int:
        number: int = request.path_params["number"]
        if number >= len(self._sources):
            raise HTTPException(404)
        return number


def _describe(frames: PageFrames) -> dict[str, Any]:
    """Describe all frames by columns, which is short: 30 bytes a frame."""
    table = frames.table
    scores = table["anomaly_score"].astype(float).round(4)
    return {
        "sources": [{"name": name, "count": len(rows)} for name, rows in table.groupby("source", sort=False)],
        "indices": table["frame_index"].tolist(),
        "times_s": table["timestamp_s"].round(3).tolist(),
        "scores": scores.astype(object).where(scores.notna(), None).tolist(),
        "threshold": frames.threshold,
        "orders": frames.orders(),
    }


def _open(catalog: Any, name: str) -> pad.Dataset:
    """Open a table without Spark, whatever the catalog loads it as."""
    table = TableDataset(filepath=catalog.get(name).folder, table=name, load_as="arrow")
    table.check()
    return table.load()


def _named_images(catalog: Any, frames: PageFrames) -> pd.DataFrame:
    """List the sources that are folders of images: `SOURCES`. Only of these does `videos` have to name the files."""
    none = pd.DataFrame(columns=SOURCES.names)
    if not catalog.get("images").exists():
        return none
    images = _open(catalog, "images").to_table(columns=["frame_id"], filter=pc.field("timestamp_s").is_null())
    folders = {parse_frame_id(frame_id)[0] for frame_id in images["frame_id"].to_pylist()} & set(frames.table["source"])
    if not folders:
        return none
    sources = catalog.get("videos").check()
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
