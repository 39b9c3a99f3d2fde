"""PASCAL-5i: VOC2012 with the SDS masks, 20 classes in 4 folds of 5 consecutive ones.

Layout, as the authors of HSNet document it:

    ROOT/VOC2012/JPEGImages/NAME.jpg
    ROOT/VOC2012/SegmentationClassAug/NAME.png      class numbers from 1, boundaries 255
    ROOT/VOC2012/ImageSets/Segmentation/val.txt     read when no split files are given
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from hsnet_trt.data.episodes.episode import Episodes, Skipped
from hsnet_trt.data.episodes.files import IGNORE, check_same_size, read_image, read_index_mask
from hsnet_trt.data.episodes.presence import classes_shown
from hsnet_trt.data.episodes.sampling import Loaded, Sampler, Split, enough_images, listed_episodes
from hsnet_trt.data.sets.layout import (
    FOLD_EPISODES,
    FOLDS,
    check_fold,
    dataset_folder,
    warn_of_other_episodes,
)
from hsnet_trt.data.sets.splits import find_split, read_lines, read_pascal_split
from hsnet_trt.errors import InputError, warn

_NAMES = (
    "aeroplane bicycle bird boat bottle bus car cat chair cow "
    "diningtable dog horse motorbike person pottedplant sheep sofa train tvmonitor"
)
CLASSES = _NAMES.split()


def fold_classes(fold: int, split: Split) -> list[int]:
    """Class ids from 0: the fold's own five for val and test, the other 15 for train."""
    own = range(fold * 5, fold * 5 + 5)
    return [c for c in range(len(CLASSES)) if (c in own) == (split != "train")]


def pascal(
    root: Path,
    *,
    fold: int,
    split: Split = "test",
    shots: int = 1,
    size: tuple[int, int] = (400, 400),
    original_size: bool = False,
    splits: Path | None = None,
    seed: int = 0,
    skipped: Skipped | None = None,
) -> Episodes:
    """Open PASCAL-5i.

    Args:
        root: the folder that holds VOC2012/.
        fold: 0 to 3.
        split: "test" and "val" are the protocol's 1000 episodes, drawn as by the authors after
            numpy.random.seed(0); "train" is endless.
        shots: supports per episode.
        size: (height, width) of images and masks.
        original_size: keep the query's mask at its own size.
        splits: the authors' data/splits (lines `name__CC`); None derives lists from the masks,
            which gives other episodes than those of the published figures.
        seed: of the endless stream.
        skipped: collects errors of broken files; None raises at the first.

    Raises:
        InputError: no such fold, or a missing or broken file, which it names.

    Warns:
        HSNetWarning: test episodes without split files; without val.txt either, training and
            judging share images.
    """
    check_fold("PASCAL-5i", fold)
    base = dataset_folder(root, "VOC2012")
    class_ids = fold_classes(fold, split)
    if splits is not None:
        pairs = _from_files(splits, fold, split)
    else:
        warn_of_other_episodes("PASCAL-5i", split)
        pairs = _from_masks(base, split, skipped)
    pairs = [(name, class_id) for name, class_id in pairs if class_id in class_ids]
    classes = {c: CLASSES[c] for c in class_ids}
    by_class: dict[int, list[str]] = {c: [] for c in class_ids}
    for name, class_id in pairs:
        by_class[class_id].append(name)
    kept = enough_images(by_class, classes, shots, f"{base} ({split}, fold {fold})", skipped)
    queries = [(name, class_id) for name, class_id in pairs if class_id in kept]
    return listed_episodes(
        f"PASCAL-5i fold {fold} {split}",
        Sampler(kept, queries, shots),
        _Load(base),
        classes,
        count=None if split == "train" else FOLD_EPISODES,
        size=size,
        original_size=original_size,
        seed=seed,
    )


@dataclass(frozen=True)
class _Load:
    base: Path

    def __call__(self, name: str, class_id: int) -> Loaded:
        image = read_image(self.base / "JPEGImages" / f"{name}.jpg")
        path = self.base / "SegmentationClassAug" / f"{name}.png"
        values = read_index_mask(path)
        check_same_size(image, values, path)
        return image, values == class_id + 1, values == IGNORE


def _from_files(splits: Path, fold: int, split: Split) -> list[tuple[str, int]]:
    if split != "train":
        return read_pascal_split(find_split(splits, "pascal", f"val/fold{fold}.txt"))
    if splits.is_file():
        return read_pascal_split(splits)
    others = (other for other in range(FOLDS) if other != fold)
    files = [find_split(splits, "pascal", f"trn/fold{other}.txt") for other in others]
    return [pair for path in files for pair in read_pascal_split(path)]


def _from_masks(base: Path, split: Split, skipped: Skipped | None) -> list[tuple[str, int]]:
    masks = sorted((base / "SegmentationClassAug").glob("[!.]*.png"))
    listed = base / "ImageSets" / "Segmentation" / "val.txt"
    if listed.is_file():
        held_out = set(read_lines(listed))
        masks = [path for path in masks if (path.stem in held_out) == (split != "train")]
    else:
        warn(f"There is no {listed}: training and judging share images (never classes)")
    if not masks:
        raise InputError(
            f"there are no masks for {split} in {base / 'SegmentationClassAug'}",
            expected="NAME.png beside JPEGImages/NAME.jpg",
        )
    shown = classes_shown(masks, "PASCAL", skipped)
    return [(path.stem, value - 1) for path, values in shown.items() for value in values]
