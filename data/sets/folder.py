"""Your own pictures: ROOT/CLASS/NAME.jpg with the mask NAME.png beside it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from hsnet_trt.data.episodes.episode import Episodes, Skipped
from hsnet_trt.data.episodes.files import check_same_size, read_any_mask, read_image
from hsnet_trt.data.episodes.sampling import Loaded, Sampler, Split, enough_images, listed_episodes
from hsnet_trt.data.sets.layout import each_image_once, images_by_class
from hsnet_trt.errors import InputError

IMAGES = {".jpg", ".jpeg", ".webp", ".bmp"}  # .png is the mask
_FORM = "of CLASS/NAME.jpg (.jpeg, .webp, .bmp), each with its mask CLASS/NAME.png beside it"


def folder(
    root: Path,
    *,
    split: Split = "test",
    shots: int = 1,
    size: tuple[int, int] = (400, 400),
    original_size: bool = False,
    seed: int = 0,
    skipped: Skipped | None = None,
) -> Episodes:
    """Open a folder of classes.

    Args:
        root: the folder; each folder in it is a class, except hidden ones.
        split: "test" and "val" use every picture once as the query, in lexicographic order, with
            supports drawn after numpy.random.seed(0); "train" is endless. All use all classes.
        shots: supports per episode.
        size: (height, width) of images and masks.
        original_size: keep the query's mask at its own size.
        seed: of the endless stream.
        skipped: collects errors of broken files; None raises at the first.

    Raises:
        InputError: there is no such folder, no class in it, or a class has too few images; a file
            is missing or broken, which the error names.
    """
    if not root.is_dir():
        raise InputError(f"there is no folder {root}", fix="check the path")
    names = sorted(path.name for path in root.iterdir() if path.is_dir() and path.name[0] != ".")
    if not names:
        raise InputError(
            f"there are no classes in {root}",
            expected="a folder for each class, which holds NAME.jpg with the mask NAME.png",
            found="no folders",
        )
    classes = dict(enumerate(names))
    by_class = images_by_class(root, classes, lambda path: path.suffix.lower() in IMAGES)
    kept = enough_images(by_class, classes, shots, str(root), skipped, _FORM)
    queries = each_image_once(kept)
    return listed_episodes(
        f"{root.name} {split}",
        Sampler(kept, queries, shots),
        _Load(root),
        {class_id: classes[class_id] for class_id in kept},
        count=None if split == "train" else len(queries),
        size=size,
        original_size=original_size,
        seed=seed,
    )


@dataclass(frozen=True)
class _Load:
    root: Path

    def __call__(self, name: str, class_id: int) -> Loaded:
        image = read_image(self.root / name, upright=True)
        path = (self.root / name).with_suffix(".png")
        mask, ignored = read_any_mask(path, upright=True)
        check_same_size(image, mask, path)
        if not mask.any():
            raise InputError(
                f"the mask {path} marks nothing",
                expected="the object in white, or by an index above 0",
                fix="draw the object, or leave the picture out with --skip-bad",
            )
        return image, mask, ignored
