"""What the page asks the server, on a bundle that segments by colour."""

from __future__ import annotations

import base64
import io
import json
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from helpers.bundles.tiny_graphs import SIZE
from helpers.pictures.page import (
    LEFT,
    QUERY,
    RIGHT,
    SUPPORT,
    compose,
    file_of,
    mask_of,
    refusal,
    shot,
)
from PIL import Image

from hsnet_trt.runtime.pictures.result import Segmentation
from hsnet_trt.runtime.segmenter import FewShotSegmenter
from hsnet_trt.serving.app.pictures import shrink
from hsnet_trt.serving.app.workspace import PageLimits, Workspace
from hsnet_trt.serving.store.store import StoreFullError, UnknownSetError

pytest.importorskip("starlette", reason="the extra `app` is not installed")
from starlette.testclient import TestClient

from hsnet_trt.serving.app.messages import segmented
from hsnet_trt.serving.app.server import PAGE, make_application
from hsnet_trt.serving.app.supports import encode_shot


def labels(answer: dict) -> np.ndarray:
    image = Image.open(io.BytesIO(base64.b64decode(answer["labels"])))
    assert image.mode == "P"
    return np.asarray(image)


def test_a_set_segments_as_the_library_does(client, bundle):
    key = compose(client, red=[shot(client, LEFT)], green=[shot(client, RIGHT)])
    answer = client.post(f"/api/sets/{key}/segment", content=file_of(QUERY)).json()
    with FewShotSegmenter.load(bundle) as segmenter:
        segmenter.set_support("red", SUPPORT, mask_of(LEFT))
        segmenter.set_support("green", SUPPORT, mask_of(RIGHT))
        direct = segmenter.segment(QUERY)
    assert (labels(answer) == direct.labels).all() and {1, 2} <= set(np.unique(direct.labels))
    assert [one["name"] for one in answer["classes"]] == ["red", "green"]
    for index, one in enumerate(answer["classes"], 1):
        assert one["share"] == pytest.approx((direct.labels == index).mean())
        assert one["presence"] == pytest.approx(direct.presence[one["name"]], abs=1e-3)
        assert one["present"] is True  # nobody calibrated this bundle
    assert list(answer["timing"]) == ["preprocess", "features", "match", "postprocess"]


def test_a_class_that_is_not_there_is_not_shown():
    masks = {name: np.zeros((4, 6), bool) for name in ("mug", "cup")}
    masks["mug"][:, :4], masks["cup"][:, 2:] = True, True
    marked = np.array([1, 1, 1, 1, 2, 2], np.uint8)[None].repeat(4, axis=0)
    found = Segmentation(masks, {}, marked, ("mug", "cup"), {}, {"mug": 0.2, "cup": 0.7}, 0.5)
    answer = json.loads(bytes(segmented(found).body))
    assert (labels(answer) == np.where(masks["cup"], 2, 0)).all()
    assert answer["classes"] == [
        {"name": "mug", "share": 0.0, "presence": 0.2, "present": False},
        {"name": "cup", "share": pytest.approx(16 / 24), "presence": 0.7, "present": True},
    ]


def test_a_set_goes_to_a_file_and_comes_back(client, bundle, tmp_path):
    key = compose(client, red=[shot(client, LEFT), shot(client, LEFT)], green=[shot(client, RIGHT)])
    kept = tmp_path / "supports.npz"
    kept.write_bytes(client.get(f"/api/sets/{key}/supports.npz").content)
    with FewShotSegmenter.load(bundle) as segmenter:
        segmenter.load_supports(kept)
        assert segmenter.classes == ("red", "green")
        direct = segmenter.segment(QUERY).labels
    classes = client.post("/api/supports", content=kept.read_bytes()).json()["classes"]
    assert [(one["name"], len(one["shots"])) for one in classes] == [("red", 2), ("green", 1)]
    again = compose(client, **{one["name"]: one["shots"] for one in classes})
    answer = client.post(f"/api/sets/{again}/segment", content=file_of(QUERY)).json()
    assert (labels(answer) == direct).all()


def test_many_at_once_each_with_its_own_set(workspace, bundle):
    picture, _ = workspace.add_picture(file_of(SUPPORT))
    sets, expected = [], []
    with FewShotSegmenter.load(bundle) as segmenter:
        for place in (LEFT, RIGHT):
            key, _ = workspace.add_shot(picture, file_of(mask_of(place)))
            sets.append(workspace.compose([("thing", [key])]))
            segmenter.set_support("thing", SUPPORT, mask_of(place))
            expected.append(segmenter.segment(QUERY).labels)
    assert (expected[0] != expected[1]).any()
    with ThreadPoolExecutor(8) as pool:
        turns = [index % 2 for index in range(80)]
        found = pool.map(lambda turn: workspace.segment(sets[turn], file_of(QUERY)).labels, turns)
        assert all((one == expected[turn]).all() for turn, one in zip(turns, found, strict=True))


def test_given_shots_stay(network, bundle):
    clock = [0.0]
    workspace = Workspace(network, PageLimits(idle_seconds=10), lambda: clock[0])
    encoded, _ = encode_shot(network, SUPPORT, mask_of(LEFT))
    ids = workspace.give({"red": [encoded]})
    clock[0] = 1e6
    assert not workspace.forget(ids["red"][0])
    client = TestClient(make_application(workspace, ids))
    assert client.get("/api/about").json()["classes"] == [{"name": "red", "shots": ids["red"]}]
    assert compose(client, red=ids["red"])


def test_idle_things_go_and_a_full_store_refuses(network):
    clock = [0.0]
    content = file_of(SUPPORT)
    limits = PageLimits(store_bytes=2 * SUPPORT.nbytes, idle_seconds=10)
    workspace = Workspace(network, limits, lambda: clock[0])
    kept = [workspace.add_picture(content)[0] for _ in range(2)]
    with pytest.raises(StoreFullError, match="store of pictures is full"):
        workspace.add_picture(content)
    assert workspace.forget(kept[0])
    workspace.add_picture(content)
    clock[0] = 11
    with pytest.raises(UnknownSetError, match="no picture"):
        workspace.picture(kept[1])


def test_notes_and_masks_that_do_not_do(client):
    picture = client.post("/api/pictures", content=file_of(SUPPORT)).json()["picture"]

    def send(mask: np.ndarray):
        return client.post(f"/api/pictures/{picture}/shots", content=file_of(mask))

    assert send(np.ones(SIZE, bool)).json()["notes"][0].startswith("the mask covers")
    small = np.zeros(SIZE, bool)
    small[40:48, 40:48] = True
    assert "vanishes at feature level" in send(small).json()["notes"][0]
    assert refusal(send(np.zeros(SIZE, bool))) == (400, "the mask is empty")
    assert refusal(send(np.ones((96, 96), bool)))[0] == 400
    several = np.zeros(SIZE, np.uint8)
    several[:9], several[9:19] = 1, 2
    assert refusal(send(several)) == (400, "the mask holds several labels")


def test_large_photographs_are_scaled_down_with_their_masks(client):
    large = np.asarray(Image.fromarray(SUPPORT).resize((840, 630)))
    assert shrink(large) is large and shrink(np.zeros((1536, 2048, 3), np.uint8)).shape == (
        768,
        1024,
        3,
    )
    assert shrink(np.zeros((5000, 3, 3), np.uint8)).shape == (1024, 1, 3)
    wide = np.zeros((40, 2048, 3), np.uint8)
    sent = client.post("/api/pictures", content=file_of(wide)).json()
    assert (sent["width"], sent["height"]) == (1024, 20)
    mask = np.zeros((40, 2048), bool)
    mask[10:30, 500:1500] = True
    answer = client.post(f"/api/pictures/{sent['picture']}/mask", content=file_of(mask))
    found = np.asarray(Image.open(io.BytesIO(answer.content)).convert("1"))
    expected = np.zeros((20, 1024), bool)
    expected[5:15, 250:750] = True
    assert (found == expected).all()


@pytest.mark.parametrize(
    "size", [(72, 96), (40, 2048)]
)  # the second is scaled down when it is kept
def test_a_mask_of_the_photograph_as_it_is_stored(client, size):
    """Refused with the way to turn it, which makes it fit."""
    stream = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.zeros((*size, 3), np.uint8)).save(stream, "PNG", exif=exif)
    mask = np.zeros(size, bool)
    mask[10:30, 20:90] = True

    def send(photograph: bytes, mask: np.ndarray):
        picture = client.post("/api/pictures", content=photograph).json()["picture"]
        return client.post(f"/api/pictures/{picture}/mask", content=file_of(mask))

    status, summary = refusal(send(stream.getvalue(), mask))
    assert (status, summary.rpartition(", ")[2]) == (400, "but its EXIF turns that image")
    assert "np.rot90(mask, -1)" in send(stream.getvalue(), mask).json()["error"]["fix"]
    assert send(stream.getvalue(), np.rot90(mask, -1)).status_code == 200
    upright = file_of(np.zeros((*size, 3), np.uint8))
    assert "not of its image's size" in refusal(send(upright, mask.T))[1]


def test_cutting_out(client):
    picture = client.post("/api/pictures", content=file_of(SUPPORT)).json()["picture"]
    answer = client.post(f"/api/pictures/{picture}/cut?box=4,12,52,66")
    found = np.asarray(Image.open(io.BytesIO(answer.content)).convert("1"))
    assert (found == mask_of(LEFT)).mean() > 0.98
    scribble = np.zeros((*SIZE, 3), np.uint8)
    scribble[30:60, 80:100, 0] = 255
    scribble[30:60, 20:40, 1] = scribble[85:90, :, 1] = 255
    answer = client.post(f"/api/pictures/{picture}/cut", content=file_of(scribble))
    found = np.asarray(Image.open(io.BytesIO(answer.content)).convert("1"))
    assert (found == mask_of(RIGHT)).mean() > 0.98
    for box in ("1,2,3", "a,b,c,d", "0,0,9999,9999", "-4,0,8,8", "5,5,0,0"):
        assert client.post(f"/api/pictures/{picture}/cut?box={box}").status_code == 400
    assert (
        client.post(f"/api/pictures/{picture}/cut", content=file_of(scribble[:50])).status_code
        == 400
    )


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP", "TIFF"])
def test_formats_that_are(client, kind):
    answer = client.post("/api/preview", content=file_of(SUPPORT, kind))
    shown = np.asarray(Image.open(io.BytesIO(answer.content))).astype(int)
    assert answer.headers["content-type"] == "image/jpeg"
    assert np.abs(shown - SUPPORT).mean() < 6


def test_the_colours_of_all_classes_differ(client):
    colours = client.get("/api/about").json()["colours"]
    assert len({*colours, "#000000"}) == 256


def test_the_page_asks_nobody_else(client):
    """No file of the page names another host, and its policy would not let it ask one."""
    names = {path.name for path in PAGE.iterdir()}
    assert {"index.html", "page.css", "main.js"} <= names
    for name in names:
        text = (PAGE / name).read_text().replace("http://www.w3.org/2000/svg", "")
        assert "http://" not in text and "https://" not in text, name
        served = client.get("/" if name == "index.html" else f"/{name}")
        assert served.content == (PAGE / name).read_bytes()
        if name.endswith(".js"):
            assert "javascript" in served.headers["content-type"]
    html = (PAGE / "index.html").read_text()
    assert "style=" not in html and "onclick=" not in html  # the policy would block them
