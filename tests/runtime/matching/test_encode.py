"""How many images and masks were given: one or several, in whatever they come."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from helpers.bundles.tiny import make_bundle
from PIL import Image

from hsnet_trt.errors import InputError
from hsnet_trt.runtime.matching.encode import as_list, encode_shots, pair_up
from hsnet_trt.runtime.matching.graphs import Tensors
from hsnet_trt.runtime.network import Network

PICTURE = np.zeros((12, 17, 3), np.uint8)
MASK = np.zeros((12, 17), bool)
MASK[3:8, 4:9] = True
STREAM = io.BytesIO(b"x")


def tensor(array: np.ndarray) -> object:
    return pytest.importorskip("torch").from_numpy(array)


ONE = {
    "array": lambda: MASK,
    "array [1,H,W]": lambda: MASK[None],
    "array [H,W,1]": lambda: MASK[..., None],
    "tensor": lambda: tensor(MASK),
    "tensor [1,H,W]": lambda: tensor(MASK)[None],
    "nested list": MASK.tolist,
    "nested list of numbers": lambda: MASK.astype(int).tolist(),
    "list of rows": lambda: list(MASK),
    "list of tensors": lambda: list(tensor(MASK)),
    "nested list [1,H,W]": lambda: [MASK.tolist()],
    "list of one": lambda: [MASK],
    "path": lambda: "mask.png",
    "file object": lambda: STREAM,
    "picture": lambda: Image.fromarray(MASK),
}


@pytest.mark.parametrize("form", ONE)
def test_one_mask(form):
    """Alone or in a list, and as one of several shots."""
    mask = ONE[form]()
    ((image, plane),) = pair_up("mug", PICTURE, mask)
    assert image is PICTURE
    if not isinstance(plane, (str, io.BytesIO, Image.Image)):
        np.testing.assert_array_equal(np.squeeze(np.asarray(plane)), MASK)
    if form not in ("nested list [1,H,W]", "list of one"):
        assert len(pair_up("mug", [PICTURE, PICTURE], [mask, mask])) == 2
        with pytest.raises(InputError, match="pair up"):
            pair_up("mug", [PICTURE, PICTURE], [mask])


@pytest.mark.parametrize("wrap", [np.asarray, tensor, list])
def test_several_masks_in_one_array(wrap):
    masks = wrap(np.stack([MASK, ~MASK, MASK]))
    pairs = pair_up("mug", [PICTURE] * 3, masks)
    np.testing.assert_array_equal(np.asarray(pairs[1][1]), ~MASK)
    assert len(pair_up("mug", wrap(np.stack([PICTURE] * 3)), masks)) == 3


def test_file_objects_are_images():
    assert as_list(STREAM, "the queries", one=3) == [STREAM]
    assert as_list([STREAM, STREAM], "the queries", one=3) == [STREAM, STREAM]


@pytest.mark.parametrize("contrast", [0.0, 2.0])
def test_a_letterbox_has_margins_that_are_no_background(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, contrast: float
) -> None:
    """A square in an input of 96 x 128, so the margins are 16 columns at either side."""
    network = Network.load(make_bundle(tmp_path / "b", contrast=contrast, resize="letterbox"))
    shown: list[np.ndarray] = []
    run = network.runner.run

    def seen(graph: str, inputs: Tensors) -> Tensors:
        if graph == "support":
            shown.append(inputs["mask"])
        return run(graph, inputs)

    monkeypatch.setattr(network.runner, "run", seen)
    mask = np.zeros((48, 48), bool)
    mask[10:30, 20:40] = True
    shots = [(np.zeros((48, 48, 3), np.uint8), mask)]
    encode_shots(network.runner, "mug", shots, network.size, network.preprocessing)
    ((plane,),) = shown
    margins = np.concatenate([plane[:, :16], plane[:, -16:]], axis=1)
    assert set(np.unique(margins)) == {-1.0 if contrast else 0.0}
    np.testing.assert_array_equal(plane[:, 16:-16], np.kron(mask, np.ones((2, 2))))
    network.close()
