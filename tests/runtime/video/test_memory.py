"""What is kept of a video: the most different, nothing old, nothing that disagrees."""

from __future__ import annotations

import numpy as np
import pytest

from hsnet_trt import Memory
from hsnet_trt.errors import InputError
from hsnet_trt.runtime.matching.packing import Columns, Shot, compress
from hsnet_trt.runtime.video.confidence import is_sharp, likeness, mean_features

CHANNELS = 8


def shot(*angles: float) -> Shot:
    """A shot whose mean feature points by so many radians off the first axis."""
    vector = np.zeros(CHANNELS, np.float32)
    vector[0], vector[1] = np.cos(angles[0]), np.sin(angles[0])
    if len(angles) > 1:
        vector[2] = angles[1]
    dense = np.zeros((1, 2, CHANNELS, 16), np.float32)
    dense[:, :, :, 5:9] = vector[:, None]
    return compress({level: dense for level in ("s2", "s3", "s4")})[0]


def followed(memory: Memory, given: list[Shot], frame: int = 0) -> Memory:
    memory.follow("mug", given, frame)
    return memory


def test_likeness_is_the_cosine_of_mean_features() -> None:
    one, other = mean_features(shot(0.0)), mean_features(shot(0.5))
    assert likeness(one, [other]) == pytest.approx(np.cos(0.5), abs=1e-6)
    assert likeness(one, [other, one]) == pytest.approx(1.0, abs=1e-6)
    empty = {
        level: Columns(np.zeros(0, np.int64), np.zeros((2, 0, CHANNELS), np.float32), 16)
        for level in ("s2", "s3", "s4")
    }
    assert likeness(mean_features(empty), [one]) == 0


def test_the_most_different_are_kept() -> None:
    memory = followed(Memory(3), [shot(0.0)])
    for frame, angle in enumerate((0.1, 0.15, 0.9, 0.5)):
        assert memory.offer("mug", shot(angle), frame)
    # The fourth one came to three; 0.1 and 0.15 are the most alike, and 0.1 is the older one.
    assert memory.frames("mug") == (1, 2, 3) and len(memory) == 3
    assert memory.frames("spoon") == ()
    single = followed(Memory(1), [shot(0.0)])
    for frame in range(3):
        assert single.offer("mug", shot(0.1 * frame), frame)
    assert single.frames("mug") == (2,) and single.version == 3


def test_what_is_unlike_the_given_shots_is_refused() -> None:
    memory = followed(Memory(), [shot(0.0)])
    assert not memory.offer("mug", shot(1.5), 0)  # cos 1.5 is 0.07
    assert not memory.offer("spoon", shot(0.0), 0) and len(memory) == 0
    assert followed(Memory(), [shot(0.0), shot(1.5)]).offer("mug", shot(1.5), 0)


def test_shots_grow_old() -> None:
    given = [shot(0.0)]
    memory = followed(Memory(age=10), given)
    memory.offer("mug", shot(0.1), 0)
    memory.offer("mug", shot(0.2), 7)
    assert followed(memory, given, 10).frames("mug") == (0, 7)
    before = memory.version
    assert followed(memory, given, 11).frames("mug") == (7,) and memory.version != before


def test_a_class_that_is_set_anew_is_another_object() -> None:
    given = [shot(0.0)]
    memory = followed(Memory(), given)
    memory.offer("mug", shot(0.1), 0)
    before = memory.version
    assert len(followed(memory, given, 1)) == 1 and memory.version == before
    assert len(followed(memory, list(given), 2)) == 0 and memory.version == before + 1
    assert followed(memory, list(given), 3).version == before + 1, "nothing was forgotten"
    assert memory.seen == 4


def test_a_shot_that_keeps_disagreeing_is_dropped() -> None:
    memory = followed(Memory(), [shot(0.0)])
    memory.offer("mug", shot(0.1), 0)
    memory.offer("mug", shot(0.3), 1)
    bad, good = memory.of("mug")
    for _ in range(5):
        memory.judge("mug", good, 0.8)
        memory.judge("mug", bad, 0.0)
    assert memory.of("mug") == (good,)
    before = memory.version
    memory.judge("mug", bad, 0.0)  # it is gone already
    assert memory.of("mug") == (good,) and memory.version == before


def test_agreement_is_a_running_mean_from_one() -> None:
    memory = followed(Memory(), [shot(0.0)])
    memory.offer("mug", shot(0.1), 0)
    (kept,), before = memory.of("mug"), memory.version
    for expected in (0.7, 0.49):
        memory.judge("mug", kept, 0.0)
        assert kept.agreement == pytest.approx(expected)
    assert memory.of("mug") == (kept,) and memory.version == before
    memory.judge("mug", kept, 0.0)  # 0.343
    assert memory.of("mug") == () and memory.version == before + 1


def test_it_can_be_cleared_at_any_time() -> None:
    memory = followed(Memory(), [shot(0.0)])
    memory.offer("mug", shot(0.1), 0)
    before = memory.version
    memory.clear()
    assert len(memory) == 0 and memory.version == before + 1
    memory.clear()
    assert memory.version == before + 1


@pytest.mark.parametrize(("shots", "age"), [(1, 1), (16, 10_000)])
def test_possible_sizes_are_kept(shots: int, age: int) -> None:
    memory = Memory(shots, age=age)
    assert (memory.shots, memory.age) == (shots, age)


@pytest.mark.parametrize(("shots", "age"), [(0, 10), (17, 10), (4, 0)])
def test_impossible_sizes_are_refused(shots: int, age: int) -> None:
    with pytest.raises(InputError, match="no such size"):
        Memory(shots, age=age)


def test_an_answer_is_sharp_if_it_is_certain_and_whole() -> None:
    plane = np.full((40, 40), -3, np.float32)
    assert not is_sharp(plane)
    plane[10:20, 10:20] = 3.5
    assert not is_sharp(plane)  # certain nowhere
    plane[15, 15] = 4.5
    assert is_sharp(plane)
    for rows, columns in ((0, 12), (39, 12), (12, 0), (12, 39)):
        cut = plane.copy()
        cut[rows, columns] = 1
        assert not is_sharp(cut)  # it goes on outside
    assert not is_sharp(np.where(plane > 4, plane, -3))  # one position of 1600
    big = np.full((40, 40), 5, np.float32)
    big[[0, -1]] = big[:, [0, -1]] = -3
    assert not is_sharp(big)
