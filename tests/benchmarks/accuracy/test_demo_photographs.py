import struct
import zlib

import pytest

from hsnet_trt.benchmarks.accuracy import demo_photographs
from hsnet_trt.benchmarks.accuracy.demo_photographs import gather, read_resources
from hsnet_trt.errors import InputError


def resource_file(files: dict[str, tuple[bytes, bool]]) -> bytes:
    """A .rcc of version 3 with one folder "images" of files: name -> (content, packed by zlib)."""
    names, data = b"", b""
    offsets = []
    for name in ("", "images", *files):
        offsets.append(len(names))
        names += struct.pack(">HI", len(name), 0) + name.encode("utf-16-be")
    nodes = [
        struct.pack(">IHII", offsets[0], 2, 1, 1) + bytes(8),
        struct.pack(">IHII", offsets[1], 2, len(files), 2) + bytes(8),
    ]
    for offset, (content, packed) in zip(offsets[2:], files.values(), strict=True):
        body = struct.pack(">I", len(content)) + zlib.compress(content) if packed else content
        nodes.append(struct.pack(">IHII", offset, int(packed), 0, len(data)) + bytes(8))
        data += struct.pack(">I", len(body)) + body
    tree = b"".join(nodes)
    start = 24
    return (
        struct.pack(
            ">4sIIIII", b"qres", 3, start, start + len(tree), start + len(tree) + len(data), 0
        )
        + tree
        + data
        + names
    )


def test_files_of_a_qt_resource_file_are_read_by_name(tmp_path):
    path = tmp_path / "x.rcc"
    path.write_bytes(resource_file({"a.webp": (b"plain", False), "b.webp": (b"z" * 99, True)}))
    files = read_resources(path)
    assert files == {"//images/a.webp": b"plain", "//images/b.webp": b"z" * 99}


def test_another_file_is_refused(tmp_path):
    (tmp_path / "x.rcc").write_bytes(bytes(64))
    with pytest.raises(InputError, match="not a Qt resource file"):
        read_resources(tmp_path / "x.rcc")


@pytest.mark.parametrize("length", [3, 4, 20, 60])
def test_a_damaged_file_is_refused(tmp_path, length):
    whole = resource_file({"a.webp": (b"plain", False), "b.webp": (b"z" * 99, True)})
    (tmp_path / "x.rcc").write_bytes(whole[:length])
    with pytest.raises(InputError, match=r"x\.rcc is (damaged|not a Qt)"):
        read_resources(tmp_path / "x.rcc")


def test_a_folder_of_other_files_is_left_alone(tmp_path, monkeypatch):
    for name in ("STAMPS", "GCOMPRIS"):
        monkeypatch.setattr(demo_photographs, name, tmp_path)
    mine = tmp_path / "pictures"
    mine.mkdir()
    (mine / "holiday.jpg").write_bytes(b"mine")
    with pytest.raises(InputError, match="holds other files"):
        gather(mine)
    assert (mine / "holiday.jpg").read_bytes() == b"mine"


def test_missing_packages_are_named_with_the_command(tmp_path, monkeypatch):
    monkeypatch.setattr(demo_photographs, "STAMPS", tmp_path / "nowhere")
    with pytest.raises(InputError) as error:
        gather(tmp_path / "out")
    assert "apt-get install tuxpaint-stamps-default" in str(error.value.fix)
    assert not (tmp_path / "out").exists()
