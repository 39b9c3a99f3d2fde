"""The optional extras of the package: what each enables, and which packages it needs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Extra:
    """An extra of setup.cfg, such as `hsnet-trt[video]`."""

    name: str
    enables: str
    packages: dict[str, str]  # import name -> name for pip


EXTRAS: Sequence[Extra] = (
    Extra(
        "video",
        "segment videos and cameras (hsnet-trt video)",
        {"cv2": "opencv-python-headless"},
    ),
    Extra(
        "app",
        "paint masks on a page (hsnet-trt app)",
        {"starlette": "starlette", "uvicorn": "uvicorn", "cv2": "opencv-python-headless"},
    ),
    Extra(
        "labels",
        "take supports from boxes, scribbles and COCO, write COCO",
        {"cv2": "opencv-python-headless", "pycocotools.mask": "pycocotools"},
    ),
    Extra(
        "supervision",
        "hand results to supervision",
        {"supervision": "supervision"},
    ),
    Extra(
        "sweep",
        "sweep many images (hsnet-trt sweep)",
        {"ray": "'ray[data]'", "pyarrow": "pyarrow", "pycocotools.mask": "pycocotools"},
    ),
    Extra(
        "triton",
        "serve with Triton (hsnet-trt export-triton, and the client)",
        {"tritonclient.grpc": "'tritonclient[grpc]'"},
    ),
)
