"""Drawings of things in several styles, from emoji that are free for every use.

A class is a name in Noto's categories of animals, plants, food, things, activities and places.
Smileys, people, flags and symbols are left out, and anything that models are judged on. The sets
are npm packages of Iconify (SVG) and LobeHub (WebP).
"""

from __future__ import annotations

import io
import json
import subprocess
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from hsnet_trt.benchmarks.recipe.left_out import shows_judged
from hsnet_trt.errors import InputError

SIDE = 144  # pixels of a drawing
_QUALITY = 85  # of WebP colours; alpha is lossless
_GROUPS = ("Activities", "Animals & Nature", "Food & Drink", "Objects", "Travel & Places")
_NAMES = "noto"  # the set whose categories name the classes
_SOLID = 0.05  # least share of a drawing that is opaque


@dataclass(frozen=True)
class Style:
    """A set of drawings: its npm package with version, and licence."""

    name: str
    package: str
    version: str
    licence: str


STYLES = (
    Style("noto", "@iconify-json/noto", "1.2.9", "Apache-2.0"),
    Style("noto-v1", "@iconify-json/noto-v1", "1.2.5", "Apache-2.0"),
    Style("twemoji", "@iconify-json/twemoji", "1.2.5", "CC-BY-4.0"),
    Style("fluent", "@iconify-json/fluent-emoji", "1.2.7", "MIT"),
    Style("openmoji", "@iconify-json/openmoji", "1.2.29", "CC-BY-SA-4.0"),
    Style("emojione", "@iconify-json/emojione", "1.2.3", "CC-BY-4.0"),
    Style("emojione-v1", "@iconify-json/emojione-v1", "1.2.3", "CC-BY-SA-4.0"),
    Style("fluent-3d", "@lobehub/fluent-emoji-3d", "1.1.0", "MIT"),
)


def draw(folder: Path, packages: Path) -> int:
    """Write FOLDER/CLASS/STYLE.webp for every class in every style that has it.

    Args:
        folder: for the drawings.
        packages: a folder that caches the packages' archives.

    Returns:
        the number of drawings.

    Raises:
        InputError: npm or resvg-py is missing, or a package cannot be downloaded.
    """
    render = _renderer()
    archives = {style.name: _archive(style, packages) for style in STYLES}
    lists = {name: archive for name, archive in archives.items() if name != "fluent-3d"}
    icons = {name: json.loads(archive["icons.json"]) for name, archive in lists.items()}
    names = _class_names(json.loads(archives[_NAMES]["metadata.json"]))
    points = {name: code for code, name in json.loads(archives[_NAMES]["chars.json"]).items()}
    drawn = 0
    for name in names:
        for style in STYLES:
            content = (
                archives["fluent-3d"].get(f"assets/{points.get(name)}.webp")
                if style.name == "fluent-3d"
                else _svg(icons[style.name], name, render)
            )
            picture = _solid(content) if content else None
            if picture is not None:
                (folder / name).mkdir(parents=True, exist_ok=True)
                picture.save(folder / name / f"{style.name}.webp", quality=_QUALITY, exact=False)
                drawn += 1
    return drawn


def _class_names(metadata: dict[str, Any]) -> list[str]:
    listed = [name for group in _GROUPS for name in metadata["categories"][group]]
    # The 24 clock faces are 24 names of one thing.
    return sorted(
        name
        for name in set(listed)
        if not (shows_judged(name) or name.endswith(("-oclock", "-thirty")))
    )


def _svg(icons: dict[str, Any], name: str, render: Callable[[str], bytes]) -> bytes | None:
    """Render an icon of an Iconify set; None if the set has no icon of that name."""
    entry = icons["icons"].get(icons.get("aliases", {}).get(name, {}).get("parent", name))
    if entry is None:
        return None
    width, height = (entry.get(side, icons.get(side, 16)) for side in ("width", "height"))
    return render(
        f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'viewBox="0 0 {width} {height}" width="{SIDE}" height="{SIDE}">{entry["body"]}</svg>'
    )


def _solid(content: bytes) -> Image.Image | None:
    """A drawing with its transparent background; None if almost nothing or everything is opaque."""
    with Image.open(io.BytesIO(content)) as opened:
        picture = opened.convert("RGBA")
    picture.thumbnail((SIDE, SIDE))
    opaque = sum(picture.getchannel("A").histogram()[128:]) / (picture.width * picture.height)
    return picture if _SOLID < opaque < 1 else None


def _renderer() -> Callable[[str], bytes]:
    try:
        from resvg_py import svg_to_bytes
    except ModuleNotFoundError as error:
        raise InputError(
            "drawings are rendered by resvg", fix="pip install 'hsnet-trt[recipe]'"
        ) from error
    return lambda svg: bytes(svg_to_bytes(svg_string=svg, skip_system_fonts=True))


def _archive(style: Style, packages: Path) -> dict[str, bytes]:
    """The files of a package by their paths in it; npm verifies what it downloads."""
    stem = style.package.removeprefix("@").replace("/", "-")
    path = packages / f"{stem}-{style.version}.tgz"
    if not path.is_file():
        packages.mkdir(parents=True, exist_ok=True)
        command = ["npm", "pack", "--silent", f"{style.package}@{style.version}"]
        try:
            subprocess.run(command, cwd=packages, check=True, stdout=subprocess.DEVNULL)
        except (OSError, subprocess.CalledProcessError) as error:
            raise InputError(
                f"{style.package} {style.version} could not be downloaded",
                found=f"{type(error).__name__}: {error}",
                fix=f"install npm, or put {path.name} into {packages}",
            ) from error
    with tarfile.open(path) as archive:
        return {
            member.name.removeprefix("package/"): file.read()
            for member in archive
            if (file := archive.extractfile(member)) is not None
        }
