"""Checkpoints as other training code saves them: prefixes, nested dicts, formats, bad values."""

from __future__ import annotations

import argparse
import json
import struct
import warnings
from pathlib import Path

import pytest
import torch

from hsnet_trt.errors import CheckpointError, HSNetWarning
from hsnet_trt.model import HSNet, load_checkpoint, save_checkpoint
from hsnet_trt.model.recipe import recipe_model

State = dict[str, torch.Tensor]


@pytest.fixture(scope="module")
def model() -> HSNet:
    return recipe_model("resnet18")


@pytest.fixture(scope="module")
def state(model: HSNet) -> State:
    return dict(model.state_dict())


def behind(prefix: str, state: State) -> State:
    return {prefix + key: value for key, value in state.items()}


def same(loaded: HSNet, state: State) -> bool:
    found = loaded.state_dict()
    return found.keys() == state.keys() and all(torch.equal(found[k], state[k]) for k in state)


def changed(state: State, by: float) -> State:
    key = "hpn_learner.decoder2.2.bias"
    return state | {key: state[key] + by}


def load(content: object, path: Path, **options: str) -> HSNet:
    torch.save(content, path)
    return load_checkpoint(path, **options)


def split(state: State, part: str) -> State:
    return {k.removeprefix(part): v for k, v in state.items() if k.startswith(part)}


ALONE = {
    "compiled": lambda s: behind("_orig_mod.", s),
    "parallel, compiled": lambda s: behind("module._orig_mod.", s),
    "compiled, parallel": lambda s: behind("_orig_mod.module.", s),
    "only the learner compiled": lambda s: {
        k.replace("hpn_learner.", "hpn_learner._orig_mod."): v for k, v in s.items()
    },
    "net": lambda s: behind("net.", s),
    "under model": lambda s: {"model": s},
    "under model_state_dict": lambda s: {"model_state_dict": behind("module.", s)},
    "under two": lambda s: {"checkpoint": {"network": behind("segmenter.core.", s)}},
    "of two parts": lambda s: {
        "backbone": split(s, "backbone."),
        "hpn_learner": split(s, "hpn_learner."),
    },
}


@pytest.mark.parametrize("form", ALONE)
def test_any_prefix_and_any_dict(form, state, tmp_path):
    """Nothing else is in the file, so nothing is warned of."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert same(load(ALONE[form](state), tmp_path / "x.pt"), state)


def test_lightning_file(state, tmp_path):
    content = {
        "epoch": 3,
        "hyper_parameters": {"lr": 0.1, "backbone": "resnet18"},
        "state_dict": behind("model.", state) | {"criterion.weight": torch.ones(2)},
        "optimizer_states": [{"state": {0: torch.zeros(3)}}],
    }
    with pytest.warns(HSNetWarning, match="holds more than an HSNet") as caught:
        assert same(load(content, tmp_path / "last.ckpt"), state)
    (warning,) = caught
    for name in ("epoch", "hyper_parameters (2)", "state_dict.criterion", "optimizer_states"):
        assert name in str(warning.message)
    assert warning.filename == __file__


@pytest.mark.parametrize("average", ["ema", "model_ema", "ema_state_dict"])
def test_which_of_two_sets_of_weights(average, state, tmp_path):
    content = {average: behind("module.", changed(state, 1)), "model": state}
    with pytest.warns(HSNetWarning, match=f"2 sets.*: model was taken; choose {average} with --we"):
        assert same(load(content, tmp_path / "x.pt"), state)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loaded = load(content, tmp_path / "x.pt", weights="ema")
        assert same(loaded, changed(state, 1))
    with pytest.raises(CheckpointError) as error:
        load(content, tmp_path / "x.pt", weights="teacher")
    assert error.value.expected == f"one of: {average}, model"
    assert "--weights" in error.value.fix


def test_a_choice_must_be_one(state, tmp_path):
    content = {"ema": {"slow": state, "fast": changed(state, 1)}}
    with pytest.raises(CheckpointError, match="several weights called 'ema'"):
        load(content, tmp_path / "x.pt", weights="ema")
    assert same(load(content, tmp_path / "x.pt", weights="fast"), changed(state, 1))


def test_another_network_does_not_pass_for_its_backbone(state, tmp_path):
    """Its own head is named, as the file spells it; today's segmentation nets share a backbone."""
    content = behind("backbone.", split(state, "backbone."))
    content["aux_head.weight"] = torch.zeros(2, 2)
    with pytest.raises(CheckpointError, match="does not fit") as error:
        load(content, tmp_path / "x.pt")
    assert "1 unexpected: aux_head.weight" in error.value.found


def test_keys_are_shown_as_the_file_has_them(tmp_path):
    with pytest.raises(CheckpointError, match="does not hold an HSNet") as error:
        load({"module.stem.weight": torch.zeros(1), "head": {"b": torch.zeros(1)}}, tmp_path / "x")
    assert error.value.found == "keys such as stem.weight, head.b"


def test_a_dict_that_holds_itself(tmp_path):
    content: dict = {"a": torch.zeros(1)}
    content["again"] = content
    with pytest.raises(CheckpointError, match="does not hold an HSNet"):
        load(content, tmp_path / "x.pt")


def write_safetensors(path: Path, state: State) -> None:
    """By the format's description: length of the header, header as JSON, then the numbers."""
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    content, names = b"", {torch.float32: "F32", torch.float16: "F16", torch.int64: "I64"}
    parts = []
    for key, value in state.items():
        data = value.contiguous().numpy().tobytes()
        where = sum(map(len, parts))
        header[key] = {
            "dtype": names[value.dtype],
            "shape": list(value.shape),
            "data_offsets": [where, where + len(data)],
        }
        parts.append(data)
    text = json.dumps(header).encode()
    content = struct.pack("<Q", len(text)) + text + b"".join(parts)
    path.write_bytes(content)


def test_safetensors(state, tmp_path):
    pytest.importorskip("safetensors")
    path = tmp_path / "model.safetensors"
    write_safetensors(path, behind("model.", state))
    assert same(load_checkpoint(path), state)
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(CheckpointError, match="cannot be read") as error:
        load_checkpoint(path)
    assert error.value.expected == "a whole safetensors file"


def test_safetensors_without_the_library(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "safetensors", None)
    write_safetensors(tmp_path / "model.safetensors", {"a": torch.zeros(1)})
    with pytest.raises(CheckpointError, match="not installed") as error:
        load_checkpoint(tmp_path / "model.safetensors")
    assert "pip install" in error.value.fix


def refused(path: Path) -> str:
    with pytest.raises(CheckpointError) as error:
        load_checkpoint(path)
    text = str(error.value)
    for word in ("\x1b", "weights_only", "safe_globals", "PyTorch 2.6", "option"):
        assert word not in text
    assert "torch.save(model.state_dict()" in text
    return text


def test_pickled_objects_are_refused_in_our_own_words(model, tmp_path):
    state = {"w": torch.zeros(1)}
    torch.save(
        {"state_dict": state, "hyper_parameters": argparse.Namespace(lr=1)}, tmp_path / "l.ckpt"
    )
    assert "a pickled argparse.Namespace" in refused(tmp_path / "l.ckpt")
    torch.save(torch.nn.Linear(1, 1), tmp_path / "module.pt")
    assert "torch.nn.modules.linear.Linear" in refused(tmp_path / "module.pt")
    torch.jit.script(torch.nn.Linear(1, 1)).save(str(tmp_path / "script.pt"))
    assert "TorchScript" in refused(tmp_path / "script.pt")
    (tmp_path / "plain.pkl").write_bytes(b"\x80\x05\x95\x10\x00\x00\x00\x00\x00\x00\x00}\x94.")
    refused(tmp_path / "plain.pkl")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_values_that_are_no_numbers_are_refused(value, state, tmp_path):
    key = "hpn_learner.decoder1.0.weight"
    bad = state[key].clone()
    bad[0, 0, 0, :2] = value
    with pytest.raises(CheckpointError, match="no weights") as error:
        load(state | {key: bad}, tmp_path / "x.pt")
    assert f"{key}: 2 of {bad.numel()} are NaN or infinite" in error.value.found


@pytest.mark.parametrize(("value", "where"), [(-1e-9, slice(1)), (0.0, slice(None))])
def test_a_variance_that_is_none_is_refused(value, where, state, tmp_path):
    key = "backbone.layer1.0.bn1.running_var"
    bad = state[key].clone()
    bad[where] = value
    with pytest.raises(CheckpointError, match="no weights") as error:
        load(state | {key: bad}, tmp_path / "x.pt")
    assert key in error.value.found


def test_a_channel_that_never_fires_is_none_of_these(model, state, tmp_path):
    """Its variance rounds to zero in 16 bits, as in the model that comes with the package."""
    key = "backbone.layer1.0.bn1.running_var"
    quiet = state[key].clone()
    quiet[0] = 1e-9
    changed = recipe_model("resnet18")
    changed.load_state_dict(state | {key: quiet})
    save_checkpoint(changed, tmp_path / "x.pt", half=True)
    assert float(load_checkpoint(tmp_path / "x.pt").state_dict()[key][0]) == 0


def test_a_sparse_tensor_is_named(state, tmp_path):
    key = "hpn_learner.decoder1.0.bias"
    with pytest.raises(CheckpointError) as error:
        load(state | {key: state[key].to_sparse()}, tmp_path / "x.pt")
    assert f"{key} is no plain tensor" in error.value.found


def test_the_command_takes_the_weights_that_are_named(tmp_path, monkeypatch):
    """`--weights` comes to `load_checkpoint` from every verb that takes a checkpoint."""
    import typer.testing

    from hsnet_trt.cli.main import app

    asked = []

    def load_checkpoint(path, backbone=None, *, weights=None, contrast=None, self_support=None):
        asked.append(weights)
        raise CheckpointError("far enough")

    from hsnet_trt.model import checkpoint

    monkeypatch.setattr(checkpoint, "load_checkpoint", load_checkpoint)
    file, out = tmp_path / "x.pt", str(tmp_path / "out")
    file.touch()
    for verb in (
        ["export", "--checkpoint", str(file), "--out", out],
        ["demo", "--checkpoint", str(file), "--out", out],
        ["evaluate", str(file), "--data", "procedural", "--out", out],
        ["benchmark", "--checkpoint", str(file), "--work", out, "--out", out],
    ):
        result = typer.testing.CliRunner().invoke(app, [*verb, "--weights", "ema"])
        assert isinstance(result.exception, CheckpointError), (verb, result.output)
    assert asked == ["ema"] * 4
