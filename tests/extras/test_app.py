"""The page in a real browser: painted by mouse, answered, and what was downloaded read back."""

from __future__ import annotations

import io
import zipfile

import numpy as np
import pytest
from extras.page_driver import Page, iou, photograph
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from hsnet_trt.runtime.segmenter import FewShotSegmenter


def test_paint_segment_and_read_the_result(page, shipped):
    support, pixels, truth = photograph("statue-of-liberty/far.jpg")
    query, asked, expected = photograph("statue-of-liberty/near.jpg")
    page.add_support(support)
    assert page.marked() == "Nothing is marked yet."
    page.paint(truth, brush=9)
    painted = page.mask()
    assert painted.shape == truth.shape and iou(painted, truth) > 0.8
    page.add_query(query)
    page.answered()
    labels = page.labels()
    with FewShotSegmenter.load(shipped) as segmenter:
        segmenter.set_support("object 1", pixels, painted)
        direct = segmenter.segment(query)
    assert labels.shape == asked.shape[:2]
    assert (labels == direct.labels).all()
    assert iou(labels == 1, expected) > 0.55
    caption = page.tab.locator(".result figcaption").inner_text()
    assert f"object 1 {100 * (labels == 1).mean():.1f} %" in caption
    assert all(step in caption for step in ("preprocess", "features", "match", "postprocess"))


def test_brush_eraser_undo_and_clear(page):
    support, pixels, _ = photograph("multimeter/red.jpg")
    page.add_support(support)
    page.brush(40)
    page.stroke([(0.3, 0.5), (0.7, 0.5)])
    line = page.mask()
    height, width = pixels.shape[:2]
    assert line[height // 2, round(0.4 * width)] and not line[round(0.1 * height)].any()
    page.tab.get_by_role("button", name="Erase").click()
    page.stroke([(0.5, 0.3), (0.5, 0.7)])
    cut = page.mask()
    assert not (cut & ~line).any() and not cut[height // 2, width // 2]
    page.tab.keyboard.press("Control+z")
    assert (page.mask() == line).all()
    page.tab.keyboard.press("Control+Shift+z")
    assert (page.mask() == cut).all()
    page.tab.click("#clear")
    assert page.marked() == "Nothing is marked yet."
    page.tab.click("#undo")
    assert (page.mask() == cut).all()


def test_a_box_and_a_scribble_are_cut_out(page):
    from hsnet_trt.data.labels.grabcut import mask_from_box

    support, pixels, truth = photograph("statue-of-liberty/near.jpg")
    page.add_support(support)
    page.tab.get_by_role("button", name="Box").click()
    rows, columns = np.flatnonzero(truth.any(1)), np.flatnonzero(truth.any(0))
    (height, width), edge = truth.shape, 4
    corners = [
        ((columns[0] - edge) / width, max(0, rows[0] - edge) / height),
        ((columns[-1] + edge) / width, min(height - 1, rows[-1] + edge) / height),
    ]
    page.stroke(corners)
    page.tab.wait_for_function(
        "() => !document.querySelector('#editor-state').innerText.includes('yet')"
    )
    sent = next(url for url in page.asked if "cut?box=" in url).partition("box=")[2]
    box = tuple(int(number) for number in sent.split(","))
    found = page.mask()
    assert (found == mask_from_box(pixels, box)).all()
    assert iou(found, truth) > 0.75

    page.tab.click("#clear")
    page.tab.get_by_role("button", name="Scribble").click()
    middle = (columns[0] + columns[-1]) / 2 / width
    page.stroke([(middle, 0.4), (middle, 0.6), (middle, 0.75)])
    page.tab.wait_for_function(
        "() => !document.querySelector('#editor-state').innerText.includes('yet')"
    )
    page.tab.get_by_role("button", name="Not this").click()
    for x in (0.08, 0.92):
        with page.tab.expect_response(lambda answer: "/cut" in answer.url):
            page.stroke([(x, 0.1), (x, 0.95)])
        page.tab.wait_for_selector("#working", state="hidden")
    assert iou(page.mask(), truth) > 0.75


def test_classes_shots_and_the_set_that_is_kept(page, browser, address, shipped, tmp_path):
    names = ("statue", "meter")
    shots = {
        "statue": ["statue-of-liberty/near.jpg"],
        "meter": ["multimeter/red.jpg", "multimeter/green.jpg"],
    }
    page.tab.click("#add-class")
    for index, name in enumerate(names):
        for shot in shots[name]:
            path = photograph(shot)[0]
            page.add_support(path, path.with_suffix(".png"), index=index)
        page.tab.locator(".class input[type=text]").nth(index).fill(name)
        page.tab.locator(".class input[type=text]").nth(index).press("Enter")
    queries = [
        photograph(f"{name}.jpg")[0] for name in ("statue-of-liberty/far", "multimeter/blue")
    ]
    page.add_query(*queries)
    page.answered(2)
    kept = tmp_path / "supports.npz"
    kept.write_bytes(page.saved("#save-set"))
    with FewShotSegmenter.load(shipped) as segmenter:
        segmenter.load_supports(kept)
        assert segmenter.classes == names
        of_kept = [segmenter.segment(query).only_present().labels for query in queries]
        for name in names:
            found = [photograph(shot) for shot in shots[name]]
            segmenter.set_support(name, [p for _, p, _ in found], [m for _, _, m in found])
        direct = [segmenter.segment(query).only_present().labels for query in queries]
    shown = [page.labels(index) for index in range(2)]
    for mine, theirs, again in zip(shown, direct, of_kept, strict=True):
        assert (mine == theirs).all() and (mine == again).all()
    assert {1, 2} <= set(np.unique(np.concatenate([labels.reshape(-1) for labels in shown])))

    picture = "() => document.querySelector('.result canvas').toDataURL()"
    both = page.tab.evaluate(picture)
    page.tab.locator("#legend input").first.uncheck()
    assert page.tab.evaluate(picture) != both
    page.tab.locator("#legend input").first.check()
    assert page.tab.evaluate(picture) == both

    with zipfile.ZipFile(io.BytesIO(page.saved("#save-all"))) as archive:
        assert archive.testzip() is None
        assert sorted(archive.namelist()) == [
            "blue.png",
            "blue_overlay.jpg",
            "far.png",
            "far_overlay.jpg",
            "labels.txt",
        ]
        assert archive.read("labels.txt").decode() == "0 background\n1 statue\n2 meter\n"
        assert (np.asarray(Image.open(archive.open("far.png"))) == shown[0]).all()
        overlay = np.asarray(Image.open(archive.open("blue_overlay.jpg"))).astype(int)
    asked = photograph("multimeter/blue.jpg")[1].astype(int)
    changed = np.abs(overlay - asked).max(axis=2)
    assert changed[shown[1] > 0].mean() > 40
    assert changed[shown[1] == 0].mean() < 8

    other = Page(browser.new_context(), address)
    other.tab.locator("#open-set").set_input_files(str(kept))
    other.add_query(*queries)
    other.answered(2)
    assert (other.labels(0) == shown[0]).all() and (other.labels(1) == shown[1]).all()
    assert other.problems == []
    other.tab.context.close()


def test_photographs_as_people_have_them(page, tmp_path):
    """Turned by a tag, large, of a format that no browser shows, dropped instead of chosen."""
    query, pixels, _ = photograph("statue-of-liberty/far.jpg")
    lying = Image.fromarray(pixels).transpose(Image.Transpose.ROTATE_90)
    tags = Image.Exif()
    tags[0x0112] = 6  # to be turned by 90 degrees clockwise
    lying.save(tmp_path / "turned.jpg", exif=tags, quality=95)
    Image.fromarray(pixels).save(tmp_path / "scan.tif")
    large = Image.fromarray(photograph("statue-of-liberty/near.jpg")[1]).resize((2400, 3200))
    large.save(tmp_path / "large.jpg")
    page.add_support(tmp_path / "large.jpg")
    page.paint(photograph("statue-of-liberty/near.jpg")[2], brush=24)
    assert page.mask().shape == (1024, 768)
    page.add_query(tmp_path / "turned.jpg", tmp_path / "scan.tif")
    page.drop("#query-drop", query)
    page.answered(3)
    turned, scan, dropped = (page.labels(index) for index in range(3))
    assert (scan == dropped).all() and scan.any()
    assert turned.shape == scan.shape and iou(turned > 0, scan > 0) > 0.9
    for index in range(3):
        overlay = page.saved(f".result:nth-of-type({index + 1}) button:text('Overlay')")
        picture = np.asarray(Image.open(io.BytesIO(overlay)).convert("RGB"))
        away = np.abs(picture.astype(int) - pixels).max(axis=2)
        assert picture.shape == pixels.shape and away[scan == 0].mean() < 12


@pytest.mark.parametrize("place", ["exif, jpeg", "exif, png", "xmp, jpeg", "text, png"])
def test_the_page_and_python_turn_a_photograph_alike(page, tmp_path, place):
    """By the EXIF block alone: what is painted upright is segmented upright."""
    from hsnet_trt.runtime.pictures.images import read_image

    tags, text = Image.Exif(), PngInfo()
    tags[0x0112] = 6
    block = tags.tobytes()
    text.add_text("Raw profile type exif", f"\nexif\n{len(block):8}\n{block.hex()}\n")
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><d tiff:Orientation="6"/></x:xmpmeta>'
    options = {
        "exif, jpeg": {"exif": tags},
        "exif, png": {"exif": tags},
        "xmp, jpeg": {"xmp": xmp},
        "text, png": {"pnginfo": text},
    }[place]
    file = tmp_path / f"a.{place.split()[1]}"
    Image.fromarray(photograph("multimeter/red.jpg")[1][:300, :200]).save(file, **options)
    page.add_support(file)
    assert page.mask().shape == read_image(file).shape[:2]


def test_painting_by_finger(browser, address):
    context = browser.new_context(
        viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True
    )
    page = Page(context, address)
    page.add_support(photograph("multimeter/red.jpg")[0])
    page.brush(30)
    area = page.area()
    fingers = context.new_cdp_session(page.tab)
    middle = area["y"] + area["height"] / 2
    for step, x in enumerate(np.linspace(0.3, 0.7, 6)):
        point = {"x": area["x"] + x * area["width"], "y": middle}
        kind = "touchMove" if step else "touchStart"
        fingers.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": [point]})
    fingers.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
    mask = page.mask()
    height, width = mask.shape
    assert mask[height // 2, round(0.32 * width) : round(0.68 * width)].all()
    assert not mask[: height // 3].any()
    wide = page.tab.evaluate("() => document.documentElement.scrollWidth")
    assert wide <= 390  # nothing sticks out of a phone's screen
    assert page.problems == []
    context.close()


def test_a_camera(page):
    page.tab.click("#camera")
    page.tab.wait_for_selector("#live[data-frames]")
    page.tab.click("#live-show")
    page.tab.wait_for_selector("#editor:not([hidden])")
    page.brush(60)
    page.stroke([(0.3, 0.3), (0.6, 0.3), (0.6, 0.6), (0.3, 0.6)])
    page.tab.wait_for_function(
        "() => Number(document.querySelector('#live').dataset.segmented) >= 3"
    )
    assert "preprocess" in page.tab.locator("#live-times").inner_text()
    page.tab.click("#live-keep")
    page.answered()
    assert page.labels().shape == (480, 640)
    page.tab.click("#live-stop")
    page.tab.wait_for_selector("#live", state="hidden")


def test_a_camera_that_is_started_twice_is_stopped(page):
    """As by a second click while the browser asks for permission."""
    page.tab.evaluate("""() => {
        const devices = navigator.mediaDevices;
        const open = devices.getUserMedia.bind(devices);
        window.opened = [];
        devices.getUserMedia = async (wanted) => {
            const stream = await open(wanted);
            window.opened.push(...stream.getTracks());
            return stream;
        };
        for (const _ of [1, 2]) document.querySelector("#camera").click();
    }""")
    page.tab.wait_for_selector("#live[data-frames]")
    page.tab.click("#live-stop")
    page.tab.wait_for_selector("#live", state="hidden")
    states = page.tab.evaluate("() => window.opened.map((track) => track.readyState)")
    assert states == ["ended"]
