"""Pictures as data URIs: a page that is one file carries them itself."""

import base64
import io
from typing import TYPE_CHECKING

import cv2
import numpy as np

from cygnet.vision.codec import encode_jpeg

if TYPE_CHECKING:
    from matplotlib.figure import Figure

JPEG_QUALITY = 82
FRAME_PX = 480
"""Longer side of a frame on a page."""


def svg_uri(figure: "Figure") -> str:
    """Give a figure as SVG: sharp in print. As an image of its own, its ids can't meet those of another figure."""
    import matplotlib as mpl

    text = io.BytesIO()
    with mpl.rc_context({"svg.hashsalt": "cygnet"}):  # the same figure gives the same bytes
        figure.savefig(text, format="svg", metadata={"Date": None})
    return f"data:image/svg+xml;base64,{base64.b64encode(text.getvalue()).decode()}"


def jpeg_uri(*panels: np.ndarray) -> str:
    """Give images of one height, `(H, W, 3)` uint8 BGR, side by side as one JPEG."""
    encoded = encode_jpeg(cv2.hconcat(panels), JPEG_QUALITY)
    return f"data:image/jpeg;base64,{base64.b64encode(encoded).decode()}"
