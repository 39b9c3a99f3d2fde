"""COCO-20i: COCO 2014, 80 classes in 4 folds; fold i judges classes i, i + 4, i + 8, ...

Layout, as the authors of HSNet document it:

    ROOT/COCO2014/{train2014,val2014}/NAME.jpg
    ROOT/COCO2014/annotations/{train2014,val2014}/NAME.png      class numbers from 1
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from hsnet_trt.data.episodes.episode import Episodes, Skipped
from hsnet_trt.data.episodes.files import check_same_size, read_image, read_index_mask
from hsnet_trt.data.episodes.presence import classes_shown
from hsnet_trt.data.episodes.sampling import Loaded, Sampler, Split, enough_images, listed_episodes
from hsnet_trt.data.sets.layout import (
    FOLD_EPISODES,
    FOLDS,
    check_fold,
    dataset_folder,
    warn_of_other_episodes,
)
from hsnet_trt.data.sets.splits import find_split, read_coco_split
from hsnet_trt.errors import InputError

_NAMES = (
    "person,bicycle,car,motorcycle,airplane,bus,train,truck,boat,traffic light,fire hydrant,"
    "stop sign,parking meter,bench,bird,cat,dog,horse,sheep,cow,elephant,bear,zebra,giraffe,"
    "backpack,umbrella,handbag,tie,suitcase,frisbee,skis,snowboard,sports ball,kite,baseball bat,"
    "baseball glove,skateboard,surfboard,tennis racket,bottle,wine glass,cup,fork,knife,spoon,"
    "bowl,banana,apple,sandwich,orange,broccoli,carrot,hot dog,pizza,donut,cake,chair,couch,"
    "potted plant,bed,dining table,toilet,tv,laptop,mouse,remote,keyboard,cell phone,microwave,"
    "oven,toaster,sink,refrigerator,book,clock,vase,scissors,teddy bear,hair drier,toothbrush"
)
CLASSES = _NAMES.split(",")


def fold_classes(fold: int, split: Split) -> list[int]:
    """Class ids from 0: the fold's own twenty for val and test, the other 60 for train."""
    return [c for c in range(len(CLASSES)) if (c % FOLDS == fold) == (split != "train")]


def coco(
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
    """Open COCO-20i.

    Args:
        root: the folder that holds COCO2014/.
        fold: 0 to 3.
        split: "test" and "val" are the protocol's 1000 episodes (class, then query, then supports,
            drawn as by the authors after numpy.random.seed(0)); "train" is endless.
        shots: supports per episode.
        size: (height, width) of images and masks.
        original_size: keep the query's mask at its own size.
        splits: the authors' data/splits (pickled lists, read by a restricted unpickler); None
            derives lists from the masks, which gives other episodes than those of the published
            figures.
        seed: of the endless stream.
        skipped: collects errors of broken files; None raises at the first.

    Raises:
        InputError: no such fold, or a missing or broken file, which it names.

    Warns:
        HSNetWarning: test episodes without split files.
    """
    check_fold("COCO-20i", fold)
    base = dataset_folder(root, "COCO2014")
    class_ids = fold_classes(fold, split)
    if splits is not None:
        part = f"{'trn' if split == 'train' else 'val'}/fold{fold}.pkl"
        lists = read_coco_split(find_split(splits, "coco", part))
    else:
        warn_of_other_episodes("COCO-20i", split)
        lists = _from_masks(base, "train2014" if split == "train" else "val2014", skipped)
    classes = {c: CLASSES[c] for c in class_ids}
    by_class = {c: lists.get(c, []) for c in class_ids}
    kept = enough_images(by_class, classes, shots, f"{base} ({split}, fold {fold})", skipped)
    return listed_episodes(
        f"COCO-20i fold {fold} {split}",
        Sampler(kept, None, shots),
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
        image = read_image(self.base / name)
        path = (self.base / "annotations" / name).with_suffix(".png")
        values = read_index_mask(path)
        check_same_size(image, values, path)
        # As the authors do, judge every pixel of COCO: crowds and borders are background.
        return image, values == class_id + 1, None


def _from_masks(base: Path, part: str, skipped: Skipped | None) -> dict[int, list[str]]:
    masks = sorted((base / "annotations" / part).glob("[!.]*.png"))
    if not masks:
        raise InputError(
            f"there are no masks in {base / 'annotations' / part}",
            expected=f"NAME.png beside {part}/NAME.jpg",
        )
    lists: dict[int, list[str]] = {}
    for path, values in classes_shown(masks, "COCO", skipped).items():
        for value in values:
            lists.setdefault(value - 1, []).append(f"{part}/{path.stem}.jpg")
    return lists
