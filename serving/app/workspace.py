"""The page's pictures, shots and support sets, kept in memory under unguessable ids.

No id is chosen by a user, and nothing is written to disk. Ids cannot be listed, so a browser cannot
see what others sent.
"""

from __future__ import annotations

import io
import itertools
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from hsnet_trt.data.labels.grabcut import mask_from_box
from hsnet_trt.errors import InputError
from hsnet_trt.runtime.matching.packing import Shot
from hsnet_trt.runtime.matching.support_set import MOST_CLASSES, check_name
from hsnet_trt.runtime.network import Network
from hsnet_trt.runtime.pictures.images import Pixels, open_image, read_image
from hsnet_trt.runtime.pictures.masks import Mask
from hsnet_trt.runtime.pictures.orientation import orientation
from hsnet_trt.runtime.pictures.result import Segmentation
from hsnet_trt.runtime.pipeline import ArrangedSupports
from hsnet_trt.serving.app.pictures import Picture, shrink
from hsnet_trt.serving.app.supports import (
    arrange,
    encode_shot,
    most_bytes,
    read_supports,
    shot_bytes,
)
from hsnet_trt.serving.store.store import StoreFullError, SupportStore
from hsnet_trt.serving.store.uploads import check_picture

_MEGABYTES = 10**6
_SMALLER = "scale it down first"


@dataclass(frozen=True)
class PageLimits:
    """Upper limits of the page.

    Attributes:
        upload_bytes: bytes of one file.
        pixels: pixels of one photograph.
        scored_pixels: pixels of a query times its classes.
        shots: shots in one support set, all classes together.
        store_bytes: bytes of each of the three stores: pictures, shots and sets.
        idle_seconds: entries unused for longer are dropped.
    """

    upload_bytes: int = 32 * _MEGABYTES
    pixels: int = 50_000_000
    scored_pixels: int = 150_000_000
    shots: int = 100
    store_bytes: int = 1_000 * _MEGABYTES
    idle_seconds: float = 3600.0


class Workspace:
    """Pictures, shots and sets. Safe to use from several threads."""

    def __init__(
        self,
        network: Network,
        limits: PageLimits | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.network, self.limits = network, limits or PageLimits()
        most, idle = self.limits.store_bytes, self.limits.idle_seconds
        enlarge = "try again later"
        self._pictures = SupportStore[Picture](most, idle, clock, "picture", enlarge)
        self._shots = SupportStore[Shot](most, idle, clock, "encoded shot", enlarge)
        self._sets = SupportStore[ArrangedSupports](most, idle, clock, "support set", enlarge)
        self._given: dict[str, Shot] = {}  # the initial shots, for all clients

    def give(self, classes: Mapping[str, Sequence[Shot]]) -> dict[str, list[str]]:
        """Keep shots as long as the server runs; returns their ids by class."""
        ids: dict[str, list[str]] = {}
        for name, shots in classes.items():
            for shot in shots:
                key = _new_id()
                self._given[key] = shot
                ids.setdefault(name, []).append(key)
        return ids

    def add_picture(self, content: bytes) -> tuple[str, Pixels]:
        """Keep a support photograph, scaled to `WORKING_SIDE`; returns its id and pixels.

        Raises:
            InputError: not a photograph, or too large.
            StoreFullError: there is no room.
        """
        what = "the photograph"
        check_picture(content, what, self.limits.pixels, _SMALLER)
        with open_image(content, what) as image:
            picture = Picture(shrink(read_image(image, what)), orientation(image))
        key = _new_id()
        with self._pictures.room(picture.pixels.nbytes) as put:
            put(key, picture)
        return key, picture.pixels

    def picture(self, key: str) -> Pixels:
        """A photograph, uint8 [H,W,3].

        Raises:
            UnknownSetError: there is none of that id.
        """
        return self._pictures.get(key).pixels

    def forget(self, key: str) -> bool:
        """Drop a picture, shot or set; returns whether it existed."""
        stores = (self._pictures, self._shots, self._sets)
        return any([store.forget(key) for store in stores])

    def read_mask(self, key: str, content: bytes) -> Mask:
        """A mask file with the picture's aspect ratio; bool [H,W] at the picture's size.

        Raises:
            InputError: not a mask, too large, empty, of several labels, or of another aspect ratio.
            UnknownSetError: there is no picture of that id.
        """
        picture = self._pictures.get(key)
        check_picture(content, "the mask", self.limits.pixels, _SMALLER)
        return picture.read_mask(content)

    def cut_box(self, key: str, box: tuple[int, int, int, int]) -> Mask:
        """The object in a box (x, y, width, height), by GrabCut; bool [H,W].

        Raises:
            InputError: the box is invalid, or no object is found in it.
            UnknownSetError: there is no picture of that id.
        """
        return mask_from_box(self.picture(key), box)

    def cut_scribble(self, key: str, content: bytes) -> Mask:
        """The object marked by a scribble, by GrabCut; bool [H,W].

        Args:
            key: the picture's id.
            content: a picture file of its size: red on the object, green on the background.

        Raises:
            InputError: the scribble is not of the picture's size, or has no red.
            UnknownSetError: there is no picture of that id.
        """
        picture = self._pictures.get(key)
        return picture.cut_scribble(self._read(content, "the scribble"))

    def add_shot(self, key: str, content: bytes) -> tuple[str, list[str]]:
        """Encode a picture with a mask; returns the shot's id, and warnings in words.

        Raises:
            InputError: as of `read_mask`, or the object is too small for the network.
            UnknownSetError: there is no picture of that id.
            StoreFullError: there is no room.
            BackendError: the backend failed.
        """
        pixels, mask = self.picture(key), self.read_mask(key, content)
        return self._keep_shot(*encode_shot(self.network, pixels, mask))

    def compose(self, classes: Sequence[tuple[str, Sequence[str]]]) -> str:
        """Make a support set of shots, by class, in order; returns its id.

        Raises:
            InputError: no class, a class without shots or name, a name twice, or too many classes
                or shots.
            UnknownSetError: there is no shot of such an id.
            StoreFullError: there is no room.
        """
        names = [check_name(name) for name, _ in classes]
        count = sum(len(keys) for _, keys in classes)
        if not names or len(set(names)) != len(names) or not all(keys for _, keys in classes):
            raise InputError(
                "these are no classes",
                expected="one at least, each with another name and a shot",
                found=", ".join(f"{name!r} with {len(keys)}" for name, keys in classes) or "none",
            )
        if len(names) > MOST_CLASSES or count > self.limits.shots:
            raise InputError(
                "there are too many classes or shots",
                expected=f"at most {MOST_CLASSES} classes and {self.limits.shots} shots",
                found=f"{len(names)} and {count}",
            )
        shots = {name: [self._shot(key) for key in keys] for name, keys in classes}
        key = _new_id()
        with self._sets.room(most_bytes(self.network, shots)) as put:
            ready = arrange(self.network, shots)
            put(key, ready, ready.nbytes)
        return key

    def segment(self, key: str, content: bytes) -> Segmentation:
        """Segment a photograph with a support set.

        Raises:
            InputError: not a photograph, or too large.
            UnknownSetError: there is no set of that id.
            BackendError: the backend failed.
        """
        ready = self._sets.get(key)
        what, classes = "the photograph", max(1, len(ready.supports.classes))
        pixels = self._read(content, what, self.limits.scored_pixels // classes)
        return self.network.pipeline.segment_all([pixels], ready)[0]

    def save(self, key: str) -> bytes:
        """A support set as the content of a `.npz` file.

        Raises:
            UnknownSetError: there is no set of that id.
        """
        stream = io.BytesIO()
        self._sets.get(key).supports.write(stream, self.network.origin)
        return stream.getvalue()

    def load(self, content: bytes) -> dict[str, list[str]]:
        """Keep the shots of such a file; returns their ids by class.

        Raises:
            InputError: not such a file, or of another model, size or preprocessing.
            StoreFullError: there is no room.
        """
        ids: dict[str, list[str]] = {}
        try:
            for name, shots in read_supports(self.network, content).items():
                for shot in shots:
                    ids.setdefault(name, []).append(self._keep_shot(shot, [])[0])
        except StoreFullError:
            for key in itertools.chain.from_iterable(ids.values()):
                self._shots.forget(key)  # or they would fill the store, known to nobody
            raise
        return ids

    def preview(self, content: bytes) -> Pixels:
        """A photograph that a browser cannot decode, scaled to `WORKING_SIDE`.

        Raises:
            InputError: not a photograph, or too large.
        """
        return shrink(self._read(content, "the photograph"))

    def _read(self, content: bytes, what: str, most: int | None = None) -> Pixels:
        pixels = min(self.limits.pixels, most or self.limits.pixels)
        check_picture(content, what, pixels, _SMALLER)
        return read_image(content, what)

    def _keep_shot(self, shot: Shot, notes: list[str]) -> tuple[str, list[str]]:
        key = _new_id()
        with self._shots.room(shot_bytes(shot)) as put:
            put(key, shot)
        return key, notes

    def _shot(self, key: str) -> Shot:
        given = self._given.get(key)
        return self._shots.get(key) if given is None else given


def _new_id() -> str:
    return secrets.token_urlsafe(16)
