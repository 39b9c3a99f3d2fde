"""The frame kernels' arithmetic, through its NumPy twin, against Pillow and the CPU path."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from hsnet_trt.runtime.bundle.manifest import Preprocessing
from hsnet_trt.runtime.engines import frame_kernels
from hsnet_trt.runtime.engines.frame_tables import make_tables, resize_taps
from hsnet_trt.runtime.engines.frame_twin import prepare, settle, vote
from hsnet_trt.runtime.pictures.postprocess import segment_logits
from hsnet_trt.runtime.pictures.preprocess import network_input, normalisation, place
from hsnet_trt.trt_plugins import nvcc

SIDE = st.integers(1, 150)
LEVEL = 1 / 255 / 0.224  # one grey level, normalised, in the most sensitive channel


def twin(image: np.ndarray, network: tuple[int, int], policy: str, **named: bool) -> np.ndarray:
    placement = place((image.shape[0], image.shape[1]), network, policy)
    scale, shift = normalisation(Preprocessing(resize=policy))
    return prepare(image, placement, make_tables(placement, (4, 4)), scale, shift, **named)


@settings(max_examples=60, deadline=None)
@given(SIDE, SIDE, SIDE, SIDE, st.sampled_from(["stretch", "letterbox"]), st.integers(0, 99))
def test_preparing_is_within_a_grey_level_of_pillow(
    h: int, w: int, net_h: int, net_w: int, policy: str, seed: int
) -> None:
    """Pillow may resize rows first where that is less work; the kernel never does."""
    image = np.random.default_rng(seed).integers(0, 256, (h, w, 3), dtype=np.uint8)
    expected = network_input([image], (net_h, net_w), Preprocessing(resize=policy))[0][0]
    found = twin(image, (net_h, net_w), policy)
    np.testing.assert_allclose(found, expected, atol=1.01 * LEVEL)
    swapped = twin(np.ascontiguousarray(image[:, :, ::-1]), (net_h, net_w), policy, swap=True)
    np.testing.assert_array_equal(swapped, found)


@pytest.mark.parametrize("policy", ["stretch", "letterbox"])
@pytest.mark.parametrize("size", [(1080, 1920), (720, 1280), (480, 640), (400, 400)])
def test_preparing_a_cameras_frame_is_pillows_to_the_bit(
    size: tuple[int, int], policy: str
) -> None:
    image = np.random.default_rng(1).integers(0, 256, (*size, 3), dtype=np.uint8)
    expected = network_input([image], (400, 400), Preprocessing(resize=policy))[0][0]
    np.testing.assert_array_equal(twin(image, (400, 400), policy), expected)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 3000), st.integers(1, 700))
def test_the_taps_are_pillows(source: int, target: int) -> None:
    """One pass, so that the order of passes does not matter: exact, whatever the scale."""
    bounds, taps = resize_taps(source, target)
    line = np.random.default_rng(source).integers(0, 256, (1, source), dtype=np.uint8)
    expected = np.asarray(Image.fromarray(line).resize((target, 1), Image.Resampling.BILINEAR))
    for x, (first, count) in enumerate(bounds):
        total = int(line[0, first : first + count].astype(np.int64) @ taps[x, :count])
        assert (total + (1 << 21)) >> 22 == expected[0, x]
    assert not np.any(taps * (np.arange(taps.shape[1]) >= bounds[:, 1:]))


@settings(max_examples=60, deadline=None)
@given(
    SIDE, SIDE, st.integers(2, 40), st.integers(2, 40),
    st.lists(st.integers(1, 5), min_size=1, max_size=4),
    st.sampled_from(["stretch", "letterbox"]), st.integers(0, 99),
)  # fmt: skip
def test_voting_is_the_cpu_paths(
    h: int, w: int, dec_h: int, dec_w: int, shots: list[int], policy: str, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 3, (sum(shots), 2, dec_h, dec_w)).astype(np.float32)
    placement = place((h, w), (64, 96), policy)
    masks, scores, labels = segment_logits(logits, shots, placement)
    tables = make_tables(placement, (dec_h, dec_w))
    votes, found, largest = vote(logits, shots, tables)
    drawn, settled = settle(votes, found, largest)
    np.testing.assert_array_equal(drawn.astype(bool), np.stack(masks))
    np.testing.assert_allclose(found, np.stack(scores), atol=1e-6)
    # Where two classes score alike to the last bit but one, either may win.
    assert (settled != labels).mean() <= (0.001 if len(shots) > 1 else 0)
    assert largest[-1] == 0
    logits[-1, 1, dec_h // 2, dec_w // 2] = np.nan
    if min(h, w) > 3 * max(dec_h, dec_w):
        assert vote(logits, shots, tables)[2][-1] == 1


def test_one_class_needs_no_scores() -> None:
    rng = np.random.default_rng(0)
    votes = rng.integers(0, 6, (1, 9, 11)).astype(np.uint16)
    masks, labels = settle(votes, None, np.array([5, 0], np.int32))
    np.testing.assert_array_equal(labels, masks[0])
    np.testing.assert_array_equal(labels, votes[0] >= 3)


def test_the_arguments_are_laid_out_as_c_does(tmp_path: Path) -> None:
    """The structs of the source, compiled by the host's compiler, against what Python packs."""
    compiler = shutil.which("g++")
    if compiler is None:
        pytest.skip("there is no C++ compiler")
    source = frame_kernels.SOURCE.read_text()
    structs = re.findall(r"^struct (\w+)\n\{\n(.*?)^\};", source, re.M | re.S)
    assert [name for name, _ in structs] == ["Prepare", "Vote", "Settle"]
    text = "#include <cstdint>\n#include <cstdio>\n"
    for name, body in structs:
        text += f"struct {name} {{\n{body}}};\n"
    text += "int main() {\n"
    for name, _ in structs:
        text += f'std::printf("%zu\\n", sizeof({name}));\n'
    (tmp_path / "sizes.cpp").write_text(text + "}\n")
    subprocess.run([compiler, "sizes.cpp", "-o", "sizes"], cwd=tmp_path, check=True)
    done = subprocess.run([tmp_path / "sizes"], capture_output=True, text=True, check=True)
    packed = [frame_kernels.PREPARE.size, frame_kernels.VOTE.size, frame_kernels.SETTLE.size]
    assert [int(size) for size in done.stdout.split()] == packed
    codes = {"*": "P", "int32_t": "i", "int64_t": "q", "float": "f"}
    for (_, body), pack in zip(
        structs, (frame_kernels.PREPARE, frame_kernels.VOTE, frame_kernels.SETTLE), strict=True
    ):
        letters = ""
        for line in re.sub(r"//.*", "", body).splitlines():
            if declared := line.strip().rstrip(";"):
                kind = "*" if "*" in declared else declared.split()[0]
                count = re.search(r"\[(\d)\]", declared)
                letters += codes[kind] * (int(count[1]) if count else 1)
        written = re.sub(r"(\d+)(\w)", lambda m: m[2] * int(m[1]), pack.format.lstrip("@"))
        assert letters == written


def test_nvcc_compiles_them(tmp_path: Path) -> None:
    if nvcc.find_nvcc() is None:
        pytest.skip("there is no nvcc")
    path = nvcc.compile_fatbin(frame_kernels.SOURCE, tmp_path / "frames.fatbin", [87])
    content = path.read_bytes()
    assert nvcc.is_fatbin(content)
    for name in ("prepare_f32", "prepare_f16", "vote_f32", "vote_f16", "settle"):
        assert f"hsnet_{name}".encode() in content
    assert [p.name for p in tmp_path.iterdir()] == ["frames.fatbin"]
