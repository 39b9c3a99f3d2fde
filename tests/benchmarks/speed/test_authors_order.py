"""The baseline: it must be the authors' network, and take the time that their code takes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from helpers.references import case

from hsnet_trt.benchmarks.speed.authors_order import AuthorsOrder, vote
from hsnet_trt.benchmarks.speed.contenders import Spec
from hsnet_trt.benchmarks.speed.torch_contender import TorchContender
from hsnet_trt.model.hsnet import BACKBONES
from hsnet_trt.model.recipe import recipe_model


@pytest.mark.parametrize("name", ["resnet50_128", "vgg16_128"])
def test_it_is_the_authors_network(name):
    """Against what the authors' own code gave (tests/data)."""
    reference = case(name)
    net = AuthorsOrder(recipe_model(reference.backbone)).eval()
    with torch.no_grad():
        logits = [
            net(reference.query, reference.supports[:, k], reference.masks[:, k])
            for k in range(reference.supports.shape[1])
        ]
    np.testing.assert_allclose(logits[0], reference.arrays["logits_1shot"], atol=1e-5)
    assert (vote(logits).numpy() == (reference.arrays["mask_kshot"] > 0.5)).all()


@pytest.mark.parametrize(
    ("backbone", "beyond"),
    [*((name, (0, 0)) for name in sorted({*BACKBONES} - {"resnet101"})), ("resnet18", (5, 4))],
)  # resnet101 is as resnet50
def test_every_backbone_gives_what_the_model_gives(backbone, beyond):
    model = recipe_model(backbone, *beyond)
    net = AuthorsOrder(model).eval()
    generator = torch.Generator().manual_seed(0)
    query, support = (torch.randn(1, 3, 64, 96, generator=generator) for _ in range(2))
    mask = torch.zeros(1, 64, 96)
    mask[:, 16:50, 20:70] = 1
    with torch.no_grad():
        expected = model(query, support, mask)
        assert expected.std() > 1e-3
        torch.testing.assert_close(net(query, support, mask), expected, atol=1e-5, rtol=1e-5)
        cached = net.match(net.encode(query), net.encode_support(support, mask), (64, 96))
        torch.testing.assert_close(cached, expected, atol=1e-5, rtol=1e-5)


def test_the_backbone_of_the_model_is_left_as_it_was():
    model = recipe_model("resnet18")
    AuthorsOrder(model)
    assert not any(m.inplace for m in model.backbone.modules() if isinstance(m, torch.nn.ReLU))


def test_votes_are_those_of_the_paper():
    on, off = torch.tensor([0.0, 1.0]), torch.tensor([1.0, 0.0])
    shots = [
        torch.stack(planes, dim=1)[None, :, :, None]
        for planes in ((on, off, off), (on, on, off), (on, on, off))
    ]
    # votes 3, 2, 0 of the largest, 3
    assert vote(shots).flatten().tolist() == [True, True, False]
    assert not vote([shots[0][:, :, 1:]]).any()


def test_fp32_is_not_rounded_to_tf32():
    """On a GPU cuDNN would, by default, and no engine in FP32 could agree with the baseline."""
    before = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = True
    try:
        spec = Spec("PyTorch eager", "fp32", "torch", False, backbone="resnet18")
        facts = TorchContender(spec, (64, 64)).facts()
    finally:
        torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = before
    assert (facts["tf32 matmul"], facts["tf32 cudnn"]) == ("False", "False")
