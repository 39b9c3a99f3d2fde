"""Shared by the readers: a dataset's folder, its folds, and classes that are folders."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from hsnet_trt.data.episodes.sampling import Split
from hsnet_trt.errors import InputError, warn

FOLDS = 4  # of PASCAL-5i and of COCO-20i
FOLD_EPISODES = 1000  # per fold, in the published protocol


def dataset_folder(root: Path, name: str) -> Path:
    """ROOT/NAME. Raises InputError if there is no such folder."""
    folder = root / name
    if not folder.is_dir():
        raise InputError(
            f"there is no folder {folder}", fix=f"point at the folder that holds {name}/"
        )
    return folder


def check_fold(dataset: str, fold: int) -> None:
    """Raise InputError unless the fold is one of 0 to 3."""
    if fold not in range(FOLDS):
        raise InputError(f"{dataset} has no such fold", expected=f"0 to {FOLDS - 1}", found=fold)


def warn_of_other_episodes(dataset: str, split: Split) -> None:
    """Warn that figures judged on lists made from the masks are not those of the literature."""
    if split == "test":
        warn(
            f"{dataset} is judged without the published lists (--splits): its episodes are drawn "
            "from the masks, so figures are not comparable with those that were published"
        )


def images_by_class(
    base: Path, classes: Mapping[int, str], is_image: Callable[[Path], bool]
) -> dict[int, list[str]]:
    """The images BASE/CLASS/FILE: class id -> sorted "CLASS/FILE".

    Args:
        base: the folder that holds the classes' folders.
        classes: class id -> name of its folder; a missing folder has no images.
        is_image: whether a file counts.
    """
    return {
        class_id: sorted(
            f"{name}/{path.name}"
            for path in (base / name).glob("*")
            if is_image(path) and path.name[0] != "."  # such as macOS' ._1.jpg
        )
        for class_id, name in classes.items()
    }


def each_image_once(by_class: Mapping[int, Sequence[str]]) -> list[tuple[str, int]]:
    """Every image as a query, (name, class id), class by class."""
    return [(image, class_id) for class_id, images in by_class.items() for image in images]
