"""The recipe's photographs: free ones that anybody can install.

- `tuxpaint-stamps-default` (Debian): photographed animals, fruit, tools, signs, ..., cut out.
- `gcompris-qt-data` (Debian): photographs of animals, fish, monuments, machines, tools.
- scikit-image's own, from its wheel.

None of them is part of this repository. Motifs that several of GCompris' pictures show (the Eiffel
tower, windmills, scissors, ...) are left out, because the demo and people judge the model on them.
"""

from __future__ import annotations

import io
import re
import shutil
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

from PIL import Image

from hsnet_trt.errors import InputError

STAMPS = Path("/usr/share/tuxpaint/stamps")
GCOMPRIS = Path("/usr/share/gcompris-qt/rcc")
# No code, drawings or text, and no motorcycles, because the demo shows them.
SKIMAGE = (
    "astronaut.png", "brick.png", "camera.png", "chelsea.png", "coffee.png", "coins.png",
    "grass.png", "gravel.png", "hubble_deep_field.jpg", "ihc.png", "moon.png", "retina.jpg",
    "rocket.jpg",
)  # fmt: skip
_COLLECTIONS = (
    "categorization", "explore_monuments", "explore_world_animals", "explore_farm_animals",
    "explore_world_music", "erase", "clickgame",
)  # fmt: skip
_HELD_OUT = re.compile(
    r"windmill|eiffel|liberty|tajmahal|colosseum|brandenburg|christ|pyramid|scissors|multimeter"
    r"|cup|chenonceau|neuschwanstein|rushmore|alphabets|numbers",
    re.IGNORECASE,
)
_DRAWN = {"cartoon", "symbols", "flags", "hats", "hanukkah", "easter", "newyears"}
# Stamps that form one class; every other stamp is a class by itself.
_KINDS = {
    "frog": "frog frog-1",
    "duck": "drake duck",
    "penguin": "little-penguin magellanic_penguin penguin",
    "heron": "heron_greatblue heron_greatblue_flying",
    "guineafowl": "guineafowl helmeted_guineafowl",
    "ostrich": "nandou ostrich",
    "hen": "chicken_profile hen rooster",
    "gull": "seagull silver-gull",
    "parrot": "adelaide-rosella rainbow-lorikeet",
    "fish": "bluegroper butterflyfish clownfish coraltrout dolphinfish moonwrasse stripedfish",
    "bear": "bear european-bear",
    "cow": "bull cow cow_white zebu",
    "gnu": "gnu-baby-stand gnu-baby gnu-sitting gnu-stand",
    "sheep": "ram sheep sheep_lamb",
    "camel": "camel dromedary",
    "lion": "lion lion-2",
    "tiger": "tiger tiger_sumatran",
    "deer": "caribou deer doe wapiti",
    "dog": "dingo dog",
    "donkey": "donkey donkey_eating",
    "pig": "pig pig_golden pig_golden2",
    "rabbit": "rabbit rabbit-2 rabbit_little",
    "mouse": "mouse rat",
    "clothespin": "clothespin_new clothespin_old",
    "apple": "apple_fuji apple_granny_smith apple_green apple_red apple_sierra_beauty",
    "orange": "mandarine orange orange_seville",
    "strawberry": "Strawberry2 strawberry",
    "sliced-citrus": "sliced_lime sliced_orange",
    "walnut": "walnut walnut_shelled",
    "garlic": "garlic garlics",
    "pepper": "pepper yellowpepper",
    "guitar": "guitar2 guitar_classical guitar_electric guitar_electric_bass",
    "fiddle": "cello violin",
    "wrench": "wrench wrench_adjustable wrench_plumbers",
    "cep": "cep cep-1 cep-2",
    "gravestone": "grave-a grave-b grave-d grave-e grave-g grave-h grave-i grave-j",
    "moon": "moon_3qt moon_crescent moon_full",
    "traffic-light": "stoplight_01_red stoplight_02_yellow stoplight_03_green",
    "car": "beetle sedan sportscar2",
    "candy-cane": "Candy_cane_photo_1 Candy_cane_photo_2 candy_cane",
    "school-crossing": "xing_school xing_ped school_sign",
    "yield": "yield give_way_sign",
    "fireman": "fireman240a fireman200b",
}


def held_out(name: str) -> bool:
    """Whether a file's name matches what the demo shows or people judge the model by."""
    return _HELD_OUT.search(name) is not None


def gather(folder: Path, left_out: Callable[[str], bool] = held_out) -> Path:
    """Copy the pictures into a folder for `photo_cut` or `mixture`; a complete folder is kept.

    Args:
        folder: the folder.
        left_out: whether to leave a file out, by its name without ending.

    Raises:
        InputError: a package is not installed (the fix names the command that installs it), or the
            folder holds other files.
    """
    if (folder / "done").is_file():
        return folder
    for source, package in ((STAMPS, "tuxpaint-stamps-default"), (GCOMPRIS, "gcompris-qt-data")):
        if not source.is_dir():
            raise InputError(
                f"there is no {source}", expected=f"the files of Debian's package {package}",
                fix=f"apt-get install {package}",
            )  # fmt: skip
    begun = folder / "begun"
    if folder.is_dir() and any(folder.iterdir()) and not begun.is_file():
        raise InputError(
            f"{folder} holds other files",
            expected="no such folder, or one that a stopped run began to fill",
            fix="choose another folder, or move it away",
        )
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "photographs").mkdir(parents=True)
    begun.touch()
    import skimage

    for name in (name for name in SKIMAGE if not left_out(Path(name).stem)):
        shutil.copy(Path(skimage.__file__).parent / "data" / name, folder / "photographs" / name)
    for collection in _COLLECTIONS:
        for name, content in read_resources(GCOMPRIS / f"{collection}.rcc").items():
            path = Path(name)
            if path.suffix == ".webp" and not left_out(path.stem):
                _keep_photograph(content, folder / "photographs" / f"{collection}-{path.name}")
    kinds = {stem: kind for kind, stems in _KINDS.items() for stem in stems.split()}
    for path in sorted(STAMPS.rglob("*.png")):
        if not (_DRAWN & set(path.parts) or left_out(path.stem)):
            stem = path.stem.removesuffix("_mirror")
            place = folder / "cutouts" / kinds.get(stem, stem)
            place.mkdir(parents=True, exist_ok=True)
            Image.open(path).convert("RGBA").save(place / path.name)
    (folder / "done").touch()
    begun.unlink()
    return folder


def _keep_photograph(content: bytes, path: Path) -> None:
    with Image.open(io.BytesIO(content)) as picture:
        if min(picture.size) >= 120 and "A" not in picture.getbands():
            path.write_bytes(content)


def read_resources(path: Path) -> dict[str, bytes]:
    """Read the files in a Qt resource file (.rcc) by their names, except zstd-compressed ones.

    The format (https://doc.qt.io/qt-6/resources.html; offsets as Qt's rcc writes them) is a tree of
    nodes; names are UTF-16 after a length and a hash, data follows a length.

    Raises:
        InputError: it is not a Qt resource file, or a damaged one.
    """
    content = path.read_bytes()
    if content[:4] != b"qres":
        raise InputError(f"{path} is not a Qt resource file", found=content[:4])
    try:
        return _files_in(content)
    except (struct.error, zlib.error, UnicodeDecodeError) as error:
        raise InputError(
            f"{path} is damaged", found=error, fix="install its package again"
        ) from error


def _files_in(content: bytes) -> dict[str, bytes]:
    version, tree, data, names = struct.unpack(">IIII", content[4:20])
    node = 14 if version == 1 else 22
    files: dict[str, bytes] = {}
    waiting = [(0, "")]
    while waiting:
        index, parent = waiting.pop()
        at = tree + index * node
        name_at, flags, first, second = struct.unpack(">IHII", content[at : at + 14])
        (length,) = struct.unpack(">H", content[names + name_at : names + name_at + 2])
        start = names + name_at + 6
        name = f"{parent}/{content[start : start + 2 * length].decode('utf-16-be')}"
        if flags & 2:  # a folder: number of children, and index of the first
            waiting += [(child, name) for child in range(second, second + first)]
            continue
        (size,) = struct.unpack(">I", content[data + second : data + second + 4])
        body = content[data + second + 4 : data + second + 4 + size]
        if not flags & 4:
            files[name] = zlib.decompress(body[4:]) if flags & 1 else body
    return files
