"""Which sources there are, what each needs, and several of them in turn."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.data_sets.tiny_sets import write_folder

from hsnet_trt.data.sources import Source
from hsnet_trt.errors import InputError

SIZE = (64, 64)


@pytest.fixture(scope="module")
def blobs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(tmp_path_factory.mktemp("blobs"))


@pytest.mark.parametrize(
    ("source", "named"),
    [
        (Source(()), "no source"),
        (Source(("imagenet",)), "imagenet"),
        (Source(("pascal",)), "folder to read from"),
        (Source(("fss",), root=Path(".")), "class lists"),
        (Source(("procedural",), seed=-1), "seed"),
    ],
)
def test_sources_that_cannot_be_opened_say_why(source: Source, named: str) -> None:
    with pytest.raises(InputError, match=named):
        source.open("test")


def test_a_mixture_takes_turns(blobs: Path) -> None:
    twice = Source(("procedural", "folder", "procedural"), root=blobs, size=SIZE).open("train")
    alone = Source(("procedural",), size=SIZE).open("train")
    own = Source(("folder",), root=blobs, size=SIZE).open("train")
    names = [twice[i].query_name for i in range(6)]
    assert names == [
        alone[0].query_name,
        own[0].query_name,
        alone[1].query_name,
        alone[2].query_name,
        own[1].query_name,
        alone[3].query_name,
    ]
    assert twice.name == f"2 x procedural train + {blobs.name} train"
    assert len(twice.classes) == len(alone.classes) + len(own.classes)
    for i in range(6):
        assert twice.classes[twice[i].class_id] == twice[i].class_name


def test_a_mixture_ends_before_a_source_that_is_given_twice_runs_out(blobs: Path) -> None:
    source = Source(("folder",), root=blobs, size=SIZE).open("test")
    assert source.count is not None
    mixed = Source(("folder", "folder", "procedural"), root=blobs, size=SIZE).open("test")
    assert mixed.count == 3 * (source.count // 2)
    names = [mixed[i].query_name for i in range(mixed.count)]
    own = [name for i, name in enumerate(names) if i % 3 != 2]
    assert own == [source[i].query_name for i in range(len(own))]
