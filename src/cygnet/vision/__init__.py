"""Image mathematics on numpy and OpenCV. Nothing here imports Kedro, Spark or torch.

Images are `(H, W, 3)` uint8 arrays in OpenCV's BGR order, masks `(H, W)` uint8 with 255 = abnormal.
"""

import os

# A broken file becomes a `reason` in a table. OpenCV and FFmpeg would print theirs as well, once per worker.
os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")

# FFmpeg would fill in the missing half of a truncated frame and report success; RTSP over UDP would lose packets.
# OpenCV's only way to say so is this variable. A file ignores what is for RTSP.
os.environ.setdefault("OPENCV_FFMPEG_CAPTURE_OPTIONS", "rtsp_transport;tcp|fflags;discardcorrupt")
