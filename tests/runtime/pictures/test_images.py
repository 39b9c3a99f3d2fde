"""Photographs as people have them, judged against what was drawn."""

from __future__ import annotations

import contextlib
import io
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from helpers.pictures.scenes import as_a_camera_gives_it
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import EpsImagePlugin, Image
from PIL.PngImagePlugin import PngImageFile

from hsnet_trt.errors import InputError
from hsnet_trt.runtime.pictures.images import MAX_PIXELS, read_image, view_image
from hsnet_trt.runtime.pictures.masks import read_mask


def gradient(height: int = 20, width: int = 30) -> np.ndarray:
    rows, columns = np.mgrid[0:height, 0:width]
    return np.stack([rows * 12, columns * 8, np.full_like(rows, 90)], -1).astype(np.uint8)


def test_rgb_path_pil_and_array_agree(tmp_path: Path) -> None:
    picture = gradient()
    Image.fromarray(picture).save(tmp_path / "a.png")
    for source in (tmp_path / "a.png", str(tmp_path / "a.png"), Image.fromarray(picture), picture):
        found = read_image(source)
        assert found.dtype == np.uint8
        assert found.flags.c_contiguous
        np.testing.assert_array_equal(found, picture)


@given(
    hnp.arrays(
        np.uint8,
        st.tuples(st.integers(1, 9), st.integers(1, 9), st.sampled_from([1, 3, 4])),
    )
)
def test_any_uint8_array_becomes_rgb_of_its_size(array: np.ndarray) -> None:
    found = read_image(array)
    assert found.shape == (*array.shape[:2], 3)
    if array.shape[2] == 3:
        np.testing.assert_array_equal(found, array)
    if array.shape[2] == 1:
        np.testing.assert_array_equal(found, np.repeat(array, 3, axis=2))
        np.testing.assert_array_equal(read_image(array[:, :, 0]), found)


@pytest.mark.filterwarnings("ignore:.*nearly black")  # of arrays that Hypothesis draws
@given(
    hnp.arrays(
        st.sampled_from([np.uint8, np.uint16]),
        st.tuples(st.integers(1, 9), st.integers(1, 9), st.sampled_from([1, 3, 4])),
    )
)
def test_bgr_is_rgb_with_its_channels_the_other_way_round(array: np.ndarray) -> None:
    order = {1: [0], 3: [2, 1, 0], 4: [2, 1, 0, 3]}[array.shape[2]]
    turned = array[:, :, order]
    found = read_image(turned, color="bgr")
    assert found.flags.c_contiguous
    np.testing.assert_array_equal(found, read_image(array))
    np.testing.assert_array_equal(view_image(turned, color="bgr"), found)


@pytest.mark.parametrize("padding", [0, 5])
def test_a_view_is_of_the_callers_own_memory(padding: int) -> None:
    given = as_a_camera_gives_it(gradient(), padding)
    found = view_image(given, color="bgr")
    assert np.shares_memory(found, given) and found.strides == (90 + padding, 3, -1)
    np.testing.assert_array_equal(found, gradient())
    assert view_image(given) is given  # nobody said that it is BGR


def test_files_and_pil_images_know_their_own_order(tmp_path: Path) -> None:
    Image.fromarray(gradient()).save(tmp_path / "a.png")
    for source in (tmp_path / "a.png", Image.fromarray(gradient())):
        np.testing.assert_array_equal(read_image(source, color="bgr"), gradient())


@pytest.mark.parametrize("color", ["BGR", "gbr", "", None, 3])
def test_another_order_is_refused(color: object) -> None:
    with pytest.raises(InputError, match="order of an array's channels") as caught:
        read_image(gradient(), color=color)  # type: ignore[arg-type]
    assert "OpenCV" in str(caught.value.fix) and repr(color) in str(caught.value.found)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_rotation_is_undone(tmp_path: Path, orientation: int) -> None:
    upright = np.zeros((40, 60, 3), np.uint8)
    upright[:10, :10, 0], upright[:10, -10:, 1], upright[-10:, :10, 2] = 250, 250, 250
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: np.rot90(upright, 1),
        7: np.rot90(upright, 2).transpose(1, 0, 2),
        8: np.rot90(upright, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(np.ascontiguousarray(stored)).save(tmp_path / "a.png", exif=exif)
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), upright)
    with Image.open(tmp_path / "a.png") as image:
        np.testing.assert_array_equal(read_image(image), upright)


@pytest.mark.parametrize("mode", ["L", "1", "P", "LA", "YCbCr", "HSV", "LAB"])
def test_other_modes(mode: str) -> None:
    picture = Image.fromarray(gradient())
    if mode == "LAB":
        from PIL import ImageCms

        lab = ImageCms.createProfile("LAB")
        turn = ImageCms.buildTransform(ImageCms.createProfile("sRGB"), lab, "RGB", "LAB")
        converted = ImageCms.applyTransform(picture, turn)
    else:
        converted = picture.quantize(256) if mode == "P" else picture.convert(mode)
    found = read_image(converted)
    assert found.shape == (20, 30, 3)
    if mode in ("L", "LA"):
        grey = np.asarray(picture.convert("L"))
        np.testing.assert_array_equal(found, np.repeat(grey[:, :, None], 3, axis=2))
    if mode in ("P", "YCbCr", "HSV", "LAB"):
        assert np.abs(found.astype(int) - gradient()).mean() < 12


def test_transparency_lies_on_white(tmp_path: Path) -> None:
    rgba = np.dstack([gradient(), np.full((20, 30), 255, np.uint8)])
    rgba[:, 15:, 3] = 0
    rgba[:, 10:15, 3] = 128
    expected = gradient().astype(float)
    alpha = rgba[:, :, 3:] / 255
    expected = expected * alpha + 255 * (1 - alpha)
    Image.fromarray(rgba).save(tmp_path / "a.png")
    for source in (tmp_path / "a.png", rgba, Image.fromarray(rgba)):
        assert np.abs(read_image(source) - expected).max() <= 1


def test_palette_with_transparency(tmp_path: Path) -> None:
    image = Image.new("P", (4, 3), 1)
    image.putpalette([10, 20, 30, 200, 100, 50])
    image.putpixel((0, 0), 0)
    image.save(tmp_path / "a.png", transparency=0)
    found = read_image(tmp_path / "a.png")
    assert found[0, 0].tolist() == [255, 255, 255]
    assert found[1, 1].tolist() == [200, 100, 50]


def test_sixteen_bit(tmp_path: Path) -> None:
    values = np.linspace(0, 65535, 600).round().astype(np.uint16).reshape(20, 30)
    expected = np.rint(values / 257).astype(np.uint8)
    Image.fromarray(values).save(tmp_path / "a.png")
    Image.fromarray(values.astype(np.int32)).save(tmp_path / "b.tiff")
    for source in (tmp_path / "a.png", tmp_path / "b.tiff", values, np.dstack([values] * 3)):
        np.testing.assert_array_equal(read_image(source), np.dstack([expected] * 3))


def test_cmyk_jpeg(tmp_path: Path) -> None:
    picture = Image.new("RGB", (32, 32), (200, 40, 60))
    picture.convert("CMYK").save(tmp_path / "a.jpg", quality=95)
    assert np.abs(read_image(tmp_path / "a.jpg").astype(int) - [200, 40, 60]).max() < 10


def test_one_pixel(tmp_path: Path) -> None:
    Image.new("RGB", (1, 1), (9, 8, 7)).save(tmp_path / "a.png")
    assert read_image(tmp_path / "a.png").tolist() == [[[9, 8, 7]]]


def test_large_photograph_without_pillows_warning(tmp_path: Path) -> None:
    Image.new("1", (12_000, 9_000), 1).save(tmp_path / "a.png")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = read_image(tmp_path / "a.png")
    assert found.shape == (9_000, 12_000, 3)
    assert found[-1, -1].tolist() == [255, 255, 255]


@pytest.mark.parametrize("side", [12_300, 14_000, 60_000])
def test_decompression_bomb(tmp_path: Path, side: int) -> None:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    png = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 99))
    (tmp_path / "bomb.png").write_bytes(png + chunk(b"IEND", b""))
    with pytest.raises(InputError, match="too large") as caught:
        read_image(tmp_path / "bomb.png")
    assert str(MAX_PIXELS // 1_000_000) in str(caught.value.expected)


def test_corrupt_files_are_input_errors(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 256, (200, 200, 3), dtype=np.uint8)
    Image.fromarray(noise).save(buffer, "JPEG")
    jpeg = buffer.getvalue()
    (tmp_path / "cut.jpg").write_bytes(jpeg[: len(jpeg) // 2])
    with pytest.raises(InputError, match="damaged") as caught:
        read_image(tmp_path / "cut.jpg")
    assert "cut.jpg" in str(caught.value)
    (tmp_path / "text.jpg").write_text("not a picture")
    (tmp_path / "empty.png").write_bytes(b"")
    for name in ("text.jpg", "empty.png", "absent.jpg", "."):
        with pytest.raises(InputError, match="cannot be opened"):
            read_image(tmp_path / name)


def test_a_pil_image_whose_file_is_damaged_or_closed_is_an_input_error() -> None:
    """Pillow reads the pixels when they are first asked for, and raises then."""
    buffer = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 256, (200, 200, 3), dtype=np.uint8)
    Image.fromarray(noise).save(buffer, "JPEG")
    cut = Image.open(io.BytesIO(buffer.getvalue()[:20000]))
    closed = Image.open(io.BytesIO(buffer.getvalue()))
    closed.close()
    for image, says in ((cut, "truncated"), (closed, "closed")):
        with pytest.raises(InputError, match="the query cannot be read") as caught:
            read_image(image, "the query")
        assert says in str(caught.value.found)
        with pytest.raises(InputError, match="the mask cannot be read"):
            read_mask(image, (200, 200), "the mask")


def test_postscript_is_refused_before_it_is_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To draw it, Pillow would start Ghostscript, and with it whatever an uploaded file says."""
    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", lambda *_: pytest.fail("run"))
    head = "%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\n"
    (tmp_path / "photo.jpg").write_text(head + "(x) print showpage\n%%EOF\n")
    for source in (tmp_path / "photo.jpg", (tmp_path / "photo.jpg").read_bytes()):
        with pytest.raises(InputError, match="is not a photograph") as caught:
            read_image(source)
        assert "PostScript" in str(caught.value.found)


@pytest.mark.parametrize("step", ["open", "load"])
@pytest.mark.parametrize("error", [RuntimeError("no plane"), AssertionError(), TypeError("float")])
def test_whatever_pillow_raises_is_an_input_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str, error: Exception
) -> None:
    """Damaged AVIF, ICNS and TIFF files raise these."""
    Image.fromarray(gradient()).save(tmp_path / "a.png")

    def fails(*_: object) -> None:
        raise error

    monkeypatch.setattr(*((Image, "open") if step == "open" else (PngImageFile, "load")), fails)
    with pytest.raises(InputError, match=r"a\.png") as caught:
        read_image(tmp_path / "a.png")
    assert (str(error) or type(error).__name__) in str(caught.value)


def test_floats_in_files_and_pil_images_are_refused_as_in_arrays(tmp_path: Path) -> None:
    values = np.linspace(0, 1, 600, dtype=np.float32).reshape(20, 30)
    Image.fromarray(values).save(tmp_path / "a.tiff")
    for source in (values, Image.fromarray(values), tmp_path / "a.tiff"):
        with pytest.raises(InputError, match=r"float32 \[20, 30\]"):
            read_image(source)


@pytest.mark.parametrize("values", [(0.0, 0.4, 1.0), (0.0, 102.4, 255.0), (False, True, True)])
def test_the_advice_for_other_types_gives_the_picture(values: tuple[float, ...]) -> None:
    image = np.tile(np.array(values), (4, 3)).reshape(4, 3, 3)
    with pytest.raises(InputError) as caught:
        read_image(image)
    code = str(caught.value.fix).rpartition(": ")[2]
    expected = np.rint(image * (1 if values[2] == 255 else 255))
    np.testing.assert_array_equal(eval(code, {"image": image}), expected)


@given(st.binary(min_size=1, max_size=40), st.integers(0, 600))
def test_damaged_png_never_leaks_another_error(damage: bytes, at: int) -> None:
    import tempfile

    buffer = io.BytesIO()
    Image.fromarray(gradient()).save(buffer, "PNG")
    content = bytearray(buffer.getvalue())
    content[at : at + len(damage)] = damage
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.png"
        path.write_bytes(content)
        with contextlib.suppress(InputError):
            assert read_image(path).ndim == 3


def test_a_folder_in_the_place_of_an_image(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be opened") as caught:
        read_image(tmp_path)
    assert "image files in it" in str(caught.value.fix)


@pytest.mark.parametrize(
    ("bad", "hint"),
    [
        (np.zeros((4, 5, 3), np.float32), "uint8"),
        (np.zeros((3, 40, 50), np.uint8), "transpose"),
        (np.zeros((2, 4, 5, 3), np.uint8), "segment_batch"),
        (np.zeros((0, 5, 3), np.uint8), "1 x 1"),
        (np.full((4, 5), -3, np.int16), "65535"),
        (np.zeros((4, 5), bool), "uint8"),
        (None, "imread returns None"),
        ([[1, 2], [3]], "uint8"),
        (np.array(["a"]), "uint8"),
    ],
)
def test_arrays_that_are_no_images(bad: object, hint: str) -> None:
    with pytest.raises(InputError) as caught:
        read_image(bad, "the query image")  # type: ignore[arg-type]
    assert "the query image" in str(caught.value)
    assert hint in str(caught.value)
