"""Checkpoints: what is taken, and what is refused with which words."""

import copy
import os
import warnings

import pytest
import torch

from hsnet_trt.errors import CheckpointError, HSNetWarning
from hsnet_trt.model import HSNet, load_checkpoint, save_checkpoint
from hsnet_trt.model.checkpoint import weights_sha256
from hsnet_trt.model.recipe import recipe_model


@pytest.fixture(scope="module")
def model() -> HSNet:
    return recipe_model("resnet18")


def same(a: HSNet, b: HSNet) -> bool:
    left, right = a.state_dict(), b.state_dict()
    return left.keys() == right.keys() and all(torch.equal(left[k], right[k]) for k in left)


def test_authors_file(model, tmp_path):
    """With `module.` before every key, and the classifier that HSNet does not use."""
    state = {f"module.{key}": value for key, value in model.state_dict().items()}
    state["module.backbone.fc.weight"] = torch.zeros(1000, 512)
    state["module.backbone.fc.bias"] = torch.zeros(1000)
    torch.save(state, tmp_path / "best_model.pt")
    loaded = load_checkpoint(tmp_path / "best_model.pt")
    assert same(loaded, model)
    assert loaded.trained
    assert not loaded.training


def test_authors_vgg_file_with_its_classifier(tmp_path):
    model = recipe_model("vgg16")
    state = dict(model.state_dict())
    state["backbone.classifier.0.weight"] = torch.zeros(4, 4)
    torch.save(state, tmp_path / "best_model.pt")
    assert same(load_checkpoint(tmp_path / "best_model.pt"), model)


@pytest.mark.parametrize("backbone", ["resnet50", "resnet101"])
def test_backbone_is_found_from_the_keys(backbone, tmp_path):
    model = HSNet(backbone)
    model.trained = True
    save_checkpoint(model, tmp_path / "x.pt", note="kept beside the weights")
    loaded = load_checkpoint(tmp_path / "x.pt")
    assert loaded.name == backbone
    assert loaded.trained
    with pytest.raises(CheckpointError, match="that backbone"):
        load_checkpoint(tmp_path / "x.pt", backbone="resnet18")


def test_random_weights_stay_known_as_random(model, tmp_path):
    save_checkpoint(model, tmp_path / "x.pt")
    assert not load_checkpoint(tmp_path / "x.pt").trained


def test_what_16_bits_cannot_hold_is_not_written(model, tmp_path):
    huge = copy.deepcopy(model)
    with torch.no_grad():
        huge.hpn_learner.decoder1[0].weight[0, 0, 0, 0] = 1e5
    with pytest.raises(CheckpointError, match="16 bits") as error:
        save_checkpoint(huge, tmp_path / "half.pt", half=True)
    assert error.value.found == "others in hpn_learner.decoder1.0.weight"
    assert not list(tmp_path.iterdir())
    save_checkpoint(huge, tmp_path / "whole.pt")
    assert float(load_checkpoint(tmp_path / "whole.pt").hpn_learner.decoder1[0].weight.max()) == 1e5


def test_half_precision_storage(model, tmp_path):
    save_checkpoint(model, tmp_path / "half.pt", half=True)
    save_checkpoint(model, tmp_path / "full.pt")
    loaded = load_checkpoint(tmp_path / "half.pt")
    for key, value in model.state_dict().items():
        assert loaded.state_dict()[key].dtype == value.dtype
        assert torch.allclose(loaded.state_dict()[key], value, rtol=1e-3, atol=1e-6)
    assert os.path.getsize(tmp_path / "half.pt") < 0.55 * os.path.getsize(tmp_path / "full.pt")


def test_a_file_may_ask_for_refined_masks(model, tmp_path):
    """Nothing else turns them on: not a file without that fact, nor one of other kinds."""
    for kept, refine in ((True, True), (False, False), ("yes", False), (None, False)):
        facts = {} if kept is None else {"refine": kept}
        save_checkpoint(model, tmp_path / "x.pt", **facts)
        assert load_checkpoint(tmp_path / "x.pt").refine is refine


@pytest.mark.parametrize(
    ("kept", "size"),
    [
        (320, (320, 320)),
        ([240, 320], (240, 320)),
        ([320], None),
        (["320", "320"], None),
        ("320", None),
    ],
)
def test_a_file_tells_the_size_it_was_trained_for(model, tmp_path, kept, size):
    save_checkpoint(model, tmp_path / "x.pt", size=kept)
    assert load_checkpoint(tmp_path / "x.pt").size == size


def test_a_folder_that_cannot_be_made_is_named(model, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match="could not be written"):
        save_checkpoint(model, tmp_path / "file" / "x.pt")


def test_torchvision_backbone_file(model, tmp_path):
    prefix = "backbone."
    state = {
        key.removeprefix(prefix): value
        for key, value in model.state_dict().items()
        if key.startswith(prefix) and "num_batches_tracked" not in key
    }
    state["fc.weight"], state["fc.bias"] = torch.zeros(1000, 512), torch.zeros(1000)
    torch.save(state, tmp_path / "resnet18.pth")
    with pytest.warns(HSNetWarning, match="backbone only"):
        loaded = load_checkpoint(tmp_path / "resnet18.pth")
    assert not loaded.trained
    key = "backbone.layer4.1.conv2.weight"
    assert torch.equal(loaded.state_dict()[key], model.state_dict()[key])


def test_missing_unexpected_and_misshaped_keys_are_named(model, tmp_path):
    state = dict(model.state_dict())
    del state["hpn_learner.decoder1.0.bias"]
    state["hpn_learner.decoder9.bias"] = torch.zeros(1)
    state["backbone.conv1.weight"] = torch.zeros(64, 1, 7, 7)
    torch.save(state, tmp_path / "x.pt")
    with pytest.raises(CheckpointError) as error:
        load_checkpoint(tmp_path / "x.pt")
    found = error.value.found
    assert "1 missing: hpn_learner.decoder1.0.bias" in found
    assert "1 unexpected: hpn_learner.decoder9.bias" in found
    assert "backbone.conv1.weight [64, 1, 7, 7] instead of [64, 3, 7, 7]" in found


@pytest.mark.parametrize(
    "state",
    [
        {"conv1.weight": torch.zeros(8, 3, 3, 3), "classifier.weight": torch.zeros(2, 8)},
        {f"layer{i}.{j}.conv1.weight": torch.zeros(1) for i in (1, 2, 3, 4) for j in range(3)},
        {},
        {"a": 1},
        [torch.zeros(1)],
    ],
    ids=["other", "depths of no ResNet here", "empty", "no tensors", "a list"],
)
def test_other_architectures_are_refused(state, tmp_path):
    torch.save(state, tmp_path / "x.pt")
    with pytest.raises(CheckpointError) as error:
        load_checkpoint(tmp_path / "x.pt")
    assert error.value.expected


@pytest.mark.parametrize("share", [0.0, 0.3, 0.999])
def test_truncated_file(model, tmp_path, share):
    save_checkpoint(model, tmp_path / "x.pt")
    content = (tmp_path / "x.pt").read_bytes()
    (tmp_path / "x.pt").write_bytes(content[: int(share * len(content))])
    with pytest.raises(CheckpointError) as error:
        load_checkpoint(tmp_path / "x.pt")
    assert error.value.fix


def test_a_folder_and_a_text_are_no_checkpoints(tmp_path):
    with pytest.raises(CheckpointError, match="is a folder"):
        load_checkpoint(tmp_path)
    (tmp_path / "x.pt").write_text("hello, I am a text file\n")
    with pytest.raises(CheckpointError, match="cannot be read") as error:
        load_checkpoint(tmp_path / "x.pt")
    assert error.value.found == "24 bytes: no PyTorch checkpoint"


class Bomb:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (os.mkdir, (str(self.path),))


@pytest.mark.parametrize("legacy", [False, True])
def test_code_in_a_pickle_is_never_run(tmp_path, legacy):
    target = tmp_path / "made_by_the_pickle"
    torch.save(
        {"state_dict": Bomb(target)}, tmp_path / "x.pt", _use_new_zipfile_serialization=not legacy
    )
    with pytest.raises(CheckpointError, match="plain tensors"):
        load_checkpoint(tmp_path / "x.pt")
    assert not target.exists()


def test_missing_file(tmp_path):
    with pytest.raises(CheckpointError, match="no checkpoint"):
        load_checkpoint(tmp_path / "nothing.pt")


@pytest.mark.parametrize(
    ("error", "found"),
    [
        (OSError(28, "No space left on device"), "No space left on device"),
        (RuntimeError("unexpected pos 64 vs 0\n#0 c10::Error"), "unexpected pos 64 vs 0"),
    ],
)
def test_a_failed_save_leaves_the_old_file(model, tmp_path, monkeypatch, error, found):
    save_checkpoint(model, tmp_path / "x.pt")
    before = (tmp_path / "x.pt").read_bytes()

    def full_disk(content, path):
        path.write_bytes(b"half")
        raise error

    monkeypatch.setattr(torch, "save", full_disk)
    with pytest.raises(CheckpointError, match="could not be written") as caught:
        save_checkpoint(model, tmp_path / "x.pt")
    assert caught.value.found == found and "space" in caught.value.fix
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [before]


def test_weights_hash_is_of_the_weights_not_of_the_file(model, tmp_path):
    save_checkpoint(model, tmp_path / "a.pt")
    torch.save(model.state_dict(), tmp_path / "b.pt")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        hashes = {weights_sha256(load_checkpoint(tmp_path / name)) for name in ("a.pt", "b.pt")}
    assert hashes == {weights_sha256(model)}
    changed = recipe_model("resnet18")
    with torch.no_grad():
        changed.hpn_learner.decoder2[2].bias[0] += 1e-6
    assert weights_sha256(changed) not in hashes
