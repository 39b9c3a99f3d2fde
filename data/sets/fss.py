"""FSS-1000: a folder per class with ten pictures, ROOT/FSS-1000/CLASS/N.jpg and N.png."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hsnet_trt.data.episodes.episode import Episodes, Skipped
from hsnet_trt.data.episodes.files import check_same_size, read_grey_mask, read_image
from hsnet_trt.data.episodes.sampling import Loaded, Sampler, Split, enough_images, listed_episodes
from hsnet_trt.data.sets.layout import dataset_folder, each_image_once, images_by_class
from hsnet_trt.data.sets.splits import check_names, find_split, read_lines

# The authors number the classes over all lists: 520 for training, 240 for validation, 240 for test.
FIRST_CLASS = {"train": 0, "val": 520, "test": 760}
FILES = {"train": "trn.txt", "val": "val.txt", "test": "test.txt"}
IMAGES_PER_CLASS = 10


def fss(
    root: Path,
    *,
    splits: Path,
    split: Split = "test",
    shots: int = 1,
    size: tuple[int, int] = (400, 400),
    original_size: bool = False,
    seed: int = 0,
    skipped: Skipped | None = None,
) -> Episodes:
    """Open FSS-1000.

    Args:
        root: the folder that holds FSS-1000/.
        splits: the published class lists: the authors' data/splits, or one list with a class
            name per line.
        split: "test" and "val" use every jpg of their classes once, in lexicographic order, with
            supports drawn from 1.jpg to 10.jpg after numpy.random.seed(0); "train" is endless.
        shots: supports per episode.
        size: (height, width) of images and masks.
        original_size: keep the query's mask at its own size (the authors' loader does not).
        seed: of the endless stream.
        skipped: collects errors of broken files; None raises at the first.

    Raises:
        InputError: a file is missing or broken; it names the file.
    """
    base = dataset_folder(root, "FSS-1000")
    listed = find_split(splits, "fss", FILES[split])
    names = sorted(read_lines(listed))
    check_names(names, listed)
    classes = {FIRST_CLASS[split] + place: name for place, name in enumerate(names)}
    by_class = images_by_class(base, classes, lambda path: path.suffix == ".jpg")
    kept = enough_images(by_class, classes, shots, str(base), skipped)
    queries = each_image_once(kept)
    return listed_episodes(
        f"FSS-1000 {split}",
        Sampler(kept, queries, shots, _the_ten),
        _Load(base),
        classes,
        count=None if split == "train" else len(queries),
        size=size,
        original_size=original_size,
        seed=seed,
    )


def _the_ten(class_id: int, query: str) -> Sequence[str]:
    folder = query.rsplit("/", 1)[0]
    return [f"{folder}/{number}.jpg" for number in range(1, IMAGES_PER_CLASS + 1)]


@dataclass(frozen=True)
class _Load:
    base: Path

    def __call__(self, name: str, class_id: int) -> Loaded:
        image = read_image(self.base / name)
        path = (self.base / name).with_suffix(".png")
        mask = read_grey_mask(path)
        check_same_size(image, mask, path)
        return image, mask, None
