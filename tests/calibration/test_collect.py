from __future__ import annotations

import dataclasses

import numpy as np
import onnx
import onnxruntime
import pytest
from helpers.data_sets.blob_episodes import BLOBS, CLASSES, SIZE, make_episode
from onnx import numpy_helper

from hsnet_trt.calibration.collect import LEAST, collect, some_object
from hsnet_trt.calibration.histogram import METHODS
from hsnet_trt.calibration.table import CalibrationTable
from hsnet_trt.data.episodes.episode import Episode, Episodes
from hsnet_trt.errors import InputError


def test_ranges_are_those_of_a_plain_run(subject, table):
    """Extremes of three tensors, from ONNX Runtime run by hand on the same pictures."""
    model = onnx.ModelProto()
    model.CopyFrom(subject.graphs["features"])
    conv = next(n for n in model.graph.node if n.op_type == "MaxPool")
    model.graph.output.append(
        onnx.helper.make_tensor_value_info(conv.output[0], onnx.TensorProto.FLOAT, None)
    )
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    images, pooled = [], []
    for number in range(8):
        episode = make_episode(number)
        for picture in (episode.query, episode.supports[0]):
            image = ((picture / 255 - mean) / std).transpose(2, 0, 1)[None].astype(np.float32)
            images.append(image)
            pooled.append(session.run([conv.output[0]], {"image": image})[0])
    for tensor, values in (("image", images), (conv.output[0], pooled)):
        found = table.ranges["features"][tensor]
        assert found.low == pytest.approx(min(v.min() for v in values), abs=1e-5)
        assert found.high == pytest.approx(max(v.max() for v in values), abs=1e-5)
        assert found.values == sum(v.size for v in values)
    supports = table.ranges["match"]["s2"]
    assert -1 <= supports.low < supports.high <= 1  # the supports are encoded, as they are used


def test_every_source_has_a_range(subject, table):
    for graph, placement in subject.placements.items():
        assert set(table.ranges[graph]) == set(placement.sources)
        for found in table.ranges[graph].values():
            assert set(found.thresholds) == set(METHODS)
            assert 0 < found.thresholds["percentile"] <= found.thresholds["minmax"]


def test_a_table_says_what_it_is_of(subject, table):
    assert table.weights_sha256 == subject.bundle.manifest.model.weights_sha256
    assert (table.size, table.lowering, table.episodes) == (SIZE, "conv2d", 8)
    assert table.data == "blobs"


def test_too_few_episodes(subject):
    with pytest.raises(InputError, match="so few episodes") as caught:
        collect(subject, BLOBS, LEAST - 1)
    assert str(LEAST) in str(caught.value)


def test_a_source_that_ends_too_early(subject):
    with pytest.raises(InputError, match="too few episodes"):
        collect(subject, Episodes("short", CLASSES, make_episode, 3), LEAST)


def test_masks_that_are_all_empty(subject):
    empty = Episodes("blank", CLASSES, lambda n: make_episode(n, empty=True), None)
    with pytest.raises(InputError, match="support masks of blank are all empty"):
        collect(subject, empty, LEAST)


def test_some_empty_masks_are_passed_over(subject, table):
    """Episodes 0, 2, 4, ... have an object: as if only those were there."""
    halved = Episodes("blobs", CLASSES, lambda n: make_episode(n // 2, empty=bool(n % 2)), None)
    again = collect(subject, halved, 8, method="percentile", made_by="a test")
    assert again == table


def test_nan_in_a_sample(subject):
    """One picture makes the first convolution overflow; the error names it."""
    model = subject.graphs["features"]
    (weight,) = [t for t in model.graph.initializer if t.name.endswith("layer1.0.conv1.weight")]
    values = numpy_helper.to_array(weight).copy()
    values[0, 0, 0, 0] = np.nan
    weight.CopyFrom(numpy_helper.from_array(values, weight.name))
    with pytest.raises(InputError, match="of features is not finite") as caught:
        collect(subject, BLOBS, LEAST)
    assert "q0" in str(caught.value)


def test_constant_activations(subject):
    """Pictures of one colour: the image is the same number everywhere."""
    grey = np.full((*SIZE, 3), 0, np.uint8)
    mean = np.rint(255 * np.array([0.485, 0.456, 0.406]))
    grey[:] = mean.astype(np.uint8)

    def plain(number: int):
        episode = make_episode(number)
        return dataclasses.replace(episode, query=grey, supports=grey[None])

    # Weights of zero after the first layer: whatever comes in, the same goes out.
    model = subject.graphs["features"]
    for tensor in model.graph.initializer:
        if tensor.name.endswith("layer2.0.conv1.weight"):
            values = np.zeros_like(numpy_helper.to_array(tensor))
            tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
        if tensor.name.endswith("layer2.0.conv1.bias"):
            values = np.ones_like(numpy_helper.to_array(tensor))
            tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    with pytest.raises(InputError, match="is the same number in every episode"):
        collect(subject, Episodes("grey", CLASSES, plain, None), LEAST)


def test_written_and_read_again(table, tmp_path):
    path = tmp_path / "ranges.json"
    path.write_text(table.to_json())
    again = CalibrationTable.read(path)
    assert again == table
    assert again.to_json() == table.to_json()
    assert again.with_method("minmax").thresholds("match")["s2"] == pytest.approx(
        max(-table.ranges["match"]["s2"].low, table.ranges["match"]["s2"].high)
    )


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"weights_sha256": "0" * 64}, "of another model"),
        ({"size": (64, 64)}, "another size or form"),
        ({"lowering": "conv3d"}, "another size or form"),
        ({"graphs": {"features": "0" * 64, "match": "0" * 64}}, "another export"),
        ({"graphs": {"decoder": "0" * 64}}, "another export"),
        ({"ranges": {"features": {}, "match": {}}}, "another export"),
    ],
)
def test_of_something_else(subject, table, change, words):
    table.check(subject)
    with pytest.raises(InputError, match=words):
        dataclasses.replace(table, **change).check(subject)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"calibration_format": 2}',
        "nonsense",
        "[" * 100_000,
        '{"calibration_format": 1, "size": [64], "ranges": {}}',
    ],
)
def test_not_a_calibration_file(tmp_path, text):
    path = tmp_path / "ranges.json"
    path.write_text(text)
    with pytest.raises(InputError, match="not a calibration file"):
        CalibrationTable.read(path)
    with pytest.raises(InputError, match="cannot be read"):
        CalibrationTable.read(tmp_path / "none.json")


def test_damaged_thresholds(table, tmp_path):
    path = tmp_path / "ranges.json"
    first = next(iter(table.ranges["match"].values())).thresholds["entropy"]
    path.write_text(table.to_json().replace(f'"entropy": {first}', '"entropy": NaN'))
    with pytest.raises(InputError, match="not a calibration file"):
        CalibrationTable.read(path)


def test_a_hash_that_is_no_text(table, tmp_path):
    path = tmp_path / "ranges.json"
    path.write_text(table.to_json().replace(f'"{table.weights_sha256}"', "7"))
    with pytest.raises(InputError, match="not a calibration file"):
        CalibrationTable.read(path)


def test_a_set_with_a_vanished_object_is_taken_as_it_is_where_all_of_it_is_asked_for() -> None:
    def make(number: int) -> Episode:
        episode = make_episode(number)
        if number != 3:
            return episode
        return dataclasses.replace(episode, support_masks=np.zeros_like(episode.support_masks))

    episodes = Episodes("one without", CLASSES, make, 10)
    taken = [episode.query_name for episode in some_object(episodes, 10, least=1)]
    assert taken == [make_episode(i).query_name for i in range(10) if i != 3]
    with pytest.raises(InputError, match="too few"):
        list(some_object(episodes, 10))
    with pytest.raises(InputError, match="too few"):
        list(some_object(episodes, 10, least=10))
