"""Pictures for the page's server, and the requests of a client that has them."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from helpers.bundles.tiny_graphs import SIZE
from helpers.pictures.scenes import GREEN, RED, scene
from PIL import Image

LEFT, RIGHT = (slice(20, 70), slice(10, 50)), (slice(20, 70), slice(70, 110))
SUPPORT, QUERY = (
    scene(SIZE, [(RED, LEFT), (GREEN, RIGHT)]),
    scene(SIZE, [(GREEN, LEFT), (RED, RIGHT)]),
)


def file_of(array: np.ndarray, kind: str = "PNG") -> bytes:
    stream = io.BytesIO()
    Image.fromarray(array).save(stream, kind)
    return stream.getvalue()


def mask_of(place: tuple[slice, slice]) -> np.ndarray:
    mask = np.zeros(SIZE, bool)
    mask[place] = True
    return mask


def shot(client: Any, place: tuple[slice, slice]) -> str:
    picture = client.post("/api/pictures", content=file_of(SUPPORT)).json()["picture"]
    return client.post(f"/api/pictures/{picture}/shots", content=file_of(mask_of(place))).json()[
        "shot"
    ]


def compose(client: Any, **classes: list[str]) -> str:
    sent = {"classes": [{"name": name, "shots": keys} for name, keys in classes.items()]}
    answer = client.post("/api/sets", json=sent)
    assert answer.status_code == 200, answer.text
    return answer.json()["set"]


def refusal(answer: Any) -> tuple[int, str]:
    """Status and summary of the error that was answered."""
    return answer.status_code, answer.json()["error"]["summary"]
