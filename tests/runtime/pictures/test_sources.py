"""Files that are open, arrays of other libraries, orientations, and 16 bits that hold fewer."""

from __future__ import annotations

import io
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from hsnet_trt.errors import HSNetWarning, InputError
from hsnet_trt.runtime.pictures.images import read_image
from hsnet_trt.runtime.pictures.masks import read_mask

PICTURE = np.random.default_rng(3).integers(0, 256, (12, 17, 3), dtype=np.uint8)
MASK = np.zeros((12, 17), bool)
MASK[2:7, 3:15] = True


def png(array: np.ndarray, **options: object) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(array).save(stream, "PNG", **options)
    return stream.getvalue()


class Shared:
    """An array of a library that has nothing but the protocol named."""

    def __init__(self, array: np.ndarray, protocol: str) -> None:
        if protocol == "__array__":
            self.__class__ = type("Arrayed", (), {"__array__": lambda self, *a, **k: array})
        else:
            methods = {
                "__dlpack__": lambda self, **k: array.__dlpack__(**k),
                "__dlpack_device__": lambda self: array.__dlpack_device__(),
            }
            self.__class__ = type("Packed", (), methods)


class Upload:
    """As Starlette's: `read` is to be awaited, `file` is the file."""

    def __init__(self, content: bytes) -> None:
        self.file = io.BytesIO()
        self.file.write(content)

    async def read(self, size: int = -1) -> bytes:
        return self.file.read(size)


def test_open_files(tmp_path: Path) -> None:
    """Read from their beginning, wherever the last one left them, and again."""
    content, plane = png(PICTURE), png(MASK)
    (tmp_path / "a.png").write_bytes(content)
    stream = io.BytesIO()
    stream.write(content)
    upload = Upload(content)
    with (tmp_path / "a.png").open("rb") as file:
        sources = (stream, file, upload, bytearray(content), memoryview(content), stream)
        for source in sources:
            np.testing.assert_array_equal(read_image(source), PICTURE)
    np.testing.assert_array_equal(read_mask(io.BytesIO(plane), MASK.shape), MASK)


def test_open_files_that_will_not_do(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("text")
    with (tmp_path / "a.txt").open() as file, pytest.raises(InputError, match="as bytes") as error:
        read_image(file)
    assert "binary" in str(error.value.expected)
    closed = io.BytesIO(b"x")
    closed.close()
    with pytest.raises(InputError, match="cannot be read"):
        read_image(closed)
    with pytest.raises(InputError, match="cannot be opened"):
        read_mask(io.BytesIO(b"no picture"), MASK.shape)


@pytest.mark.parametrize("protocol", ["__array__", "__dlpack__"])
def test_arrays_of_other_libraries(protocol: str) -> None:
    np.testing.assert_array_equal(read_image(Shared(PICTURE, protocol)), PICTURE)
    plane = MASK.astype(np.uint8)
    np.testing.assert_array_equal(read_mask(Shared(plane, protocol), MASK.shape), MASK)


def test_tensors() -> None:
    torch = pytest.importorskip("torch")
    np.testing.assert_array_equal(read_image(torch.from_numpy(PICTURE)), PICTURE)
    np.testing.assert_array_equal(read_mask(torch.from_numpy(MASK)[None], MASK.shape), MASK)
    with pytest.raises(InputError, match="not an array") as error:
        read_mask(torch.zeros(12, 17, requires_grad=True), MASK.shape)
    assert ".detach().cpu()" in str(error.value.fix)


def test_nested_lists() -> None:
    np.testing.assert_array_equal(read_mask(MASK.tolist(), MASK.shape), MASK)
    with pytest.raises(InputError, match="not an array") as error:
        read_mask([[0, 1], [1]], (2, 2))
    assert "one length" in str(error.value.fix)


def exif(orientation: int) -> Image.Exif:
    tags = Image.Exif()
    tags[0x0112] = orientation
    return tags


def elsewhere() -> dict[str, dict[str, object]]:
    """Where Pillow finds an orientation and browsers do not look."""
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><d tiff:Orientation="6"/></x:xmpmeta>'
    text, block = PngImagePlugin.PngInfo(), PngImagePlugin.PngInfo()
    text.add_itxt("XML:com.adobe.xmp", xmp.decode())
    data = exif(6).tobytes()
    block.add_text("Raw profile type exif", f"\nexif\n{len(data):8}\n{data.hex()}\n")
    return {
        "png, xmp": {"format": "PNG", "pnginfo": text},
        "png, text": {"format": "PNG", "pnginfo": block},
        "jpeg, xmp": {"format": "JPEG", "xmp": xmp},
        "webp, xmp": {"format": "WEBP", "xmp": xmp, "lossless": True},
    }


@pytest.mark.parametrize("form", elsewhere())
def test_only_the_exif_block_turns_a_picture(form: str, tmp_path: Path) -> None:
    with (tmp_path / "a").open("wb") as file:
        Image.fromarray(PICTURE).save(file, **elsewhere()[form])
    with Image.open(tmp_path / "a") as opened:
        assert opened.getexif().get(0x0112) == 6  # Pillow would turn it
        stored = np.asarray(opened.convert("RGB"))
        np.testing.assert_array_equal(read_image(opened), stored)
    np.testing.assert_array_equal(read_image(tmp_path / "a"), stored)


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_the_exif_block_turns_it(form: str, tmp_path: Path) -> None:
    Image.fromarray(PICTURE).save(tmp_path / "a", form, exif=exif(6))
    assert read_image(tmp_path / "a").shape == (17, 12, 3)


@pytest.mark.parametrize("orientation", range(5, 9))
def test_a_mask_of_the_picture_as_stored(orientation: int) -> None:
    """The advice, carried out, is what makes the mask fit."""
    content = png(PICTURE, exif=exif(orientation))
    upright = read_image(content)
    with pytest.raises(InputError, match="its EXIF turns that image") as error:
        read_mask(MASK, upright.shape[:2], image=content)
    advice = str(error.value.fix).removeprefix("turn the mask as the image: ").split(", 90")[0]
    turned = eval(advice, {"np": np, "mask": MASK})
    found = read_mask(turned, upright.shape[:2], image=content)
    both = np.where(MASK[..., None], np.uint8(255), np.uint8(0)).repeat(3, axis=2)
    np.testing.assert_array_equal(found, read_image(png(both, exif=exif(orientation)))[..., 0] > 0)


def test_a_mask_of_another_size_is_not_blamed_on_exif() -> None:
    with pytest.raises(InputError, match="not of its image's size"):
        read_mask(MASK.T, MASK.shape, image=png(PICTURE))


def test_twelve_bits_in_sixteen(tmp_path: Path) -> None:
    picture = (np.arange(204, dtype=np.uint16).reshape(12, 17) * 20).astype(np.uint16)
    Image.fromarray(picture).save(tmp_path / "a.png")
    with pytest.warns(HSNetWarning, match="reach 4060 of 65535.*12 bits") as caught:
        read_image(tmp_path / "a.png")
    advice = str(caught[0].message).rpartition(": ")[2]
    scaled = read_image(eval(advice, {"image": picture}))
    np.testing.assert_allclose(scaled[..., 0], picture * 255.0 / 4095, atol=1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        read_image(np.full((4, 4), 8192, np.uint16))
        read_image(np.zeros((4, 4), np.uint16))
