"""The frame kernels on a real GPU against Pillow and the CPU path, on odd sizes."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from hsnet_trt.runtime.bundle.manifest import Preprocessing
from hsnet_trt.runtime.device.driver import Cuda
from hsnet_trt.runtime.device.memory import Block
from hsnet_trt.runtime.frames.frame_kernels import (
    COLOUR,
    FIT,
    GUIDE,
    LIKENESS,
    PREPARE,
    REFINE,
    SETTLE,
    VOTE,
    FrameKernels,
    histogram_bytes,
    tiled,
)
from hsnet_trt.runtime.frames.frame_tables import make_tables
from hsnet_trt.runtime.matching.presence import best_matches
from hsnet_trt.runtime.pictures.colour_model import MOST, RAREST, SURE, WEIGHT
from hsnet_trt.runtime.pictures.guided_filter import EPSILON, FINER, SUREST, radius, refine
from hsnet_trt.runtime.pictures.postprocess import segment_logits
from hsnet_trt.runtime.pictures.preprocess import network_input, normalisation, place

NETWORK, DECODER = (400, 400), (100, 100)
FRAME = (720, 1280)
# `refined` is in probabilities; a colour that rounding moves to the next bin shifts those around.
WORST = {"scores": 1e-5, "likeness": 1e-5, "refined": 5e-3}


def check_kernels(cuda: Cuda, image: bytes, rounds: int = 40) -> dict[str, Any]:
    """The frame kernels in FP32 and FP16 against Pillow and the CPU path, on odd sizes."""
    rng = np.random.default_rng(1)
    wrong: list[str] = []
    worst = dict.fromkeys(("prepare_f32", "prepare_f16", *WORST), 0.0)
    with cuda.current():
        kernels, stream = FrameKernels(cuda, image), cuda.stream()
        for number in range(rounds):
            policy, half = ("stretch", "letterbox")[number % 2], number % 4 > 1
            h, w = (int(n) for n in rng.integers(1, 700, 2)) if number else FRAME
            pixels = rng.integers(0, 256, (h, w, 3), dtype=np.uint8)
            dtype = np.dtype(np.float16 if half else np.float32)
            bgr = number % 3 == 1
            found = _prepare(cuda, kernels, stream, pixels, policy, dtype, pad=number % 5, bgr=bgr)
            expected = network_input([pixels], NETWORK, Preprocessing(resize=policy))[0][0]
            error = float(np.abs(found - expected).max())
            key = "prepare_f16" if half else "prepare_f32"
            worst[key] = max(worst[key], error)
            if not error <= (2e-3 if half else 1e-6):
                wrong.append(f"prepare {h}x{w} {policy} {dtype}{' BGR' * bgr}: {error}")
            shots = [int(n) for n in rng.integers(1, 6, int(rng.integers(1, 4)))]
            logits = rng.normal(0, 3, (sum(shots), 2, *DECODER)).astype(dtype)
            got = _vote(cuda, kernels, stream, logits, shots, (h, w), policy)
            placement = place((h, w), NETWORK, policy)
            masks, scores, _ = segment_logits(logits.astype(np.float32), shots, placement)
            if not np.array_equal(got[0].astype(bool), np.stack(masks)):
                wrong.append(f"masks {h}x{w} {policy} {dtype} {shots}")
            worst["scores"] = max(worst["scores"], float(np.abs(got[1] - np.stack(scores)).max()))
            sides = [int(rng.integers(2, side + 1)) for side in DECODER]
            decoder = tuple(sides) if number else DECODER
            few = rng.normal(0, 2, (sum(shots), 2, *decoder)).astype(dtype)
            refined, invalid = _refine(cuda, kernels, stream, found.astype(dtype), few)
            like = refine(few.astype(np.float32), found, Preprocessing())
            # Compared as probabilities: near 0 and 1 the logits of similar ones differ widely.
            error = float(np.abs(np.tanh(refined / 2) - np.tanh(like / 2)).max()) / 2
            worst["refined"] = max(worst["refined"], error)
            if invalid:
                wrong.append(f"refine {decoder} {dtype} {shots}: finite logits taken for others")
            few[-1, 1, -1, -1] = np.nan
            if not _refine(cuda, kernels, stream, found.astype(dtype), few)[1]:
                wrong.append(f"refine {decoder} {dtype} {shots}: NaN was not noted")
            channels, positions = (int(n) for n in rng.integers(1, 400, 2))
            last = rng.standard_normal((channels, positions)).astype(dtype)
            vectors = rng.standard_normal((int(rng.integers(1, 60)), channels)).astype(np.float32)
            vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
            matches = _likeness(cuda, kernels, stream, last, vectors)
            error = float(np.abs(matches - best_matches(last, vectors)).max())
            worst["likeness"] = max(worst["likeness"], error)
        cuda.destroy(stream)
    wrong += [f"{key}: {worst[key]}" for key, most in WORST.items() if not worst[key] <= most]
    return {"rounds": rounds, "largest_error": worst, "wrong": wrong}


def _prepare(
    cuda: Cuda,
    kernels: FrameKernels,
    stream: Any,
    pixels: NDArray[Any],
    policy: str,
    dtype: np.dtype[Any],
    pad: int,
    *,
    bgr: bool,
) -> NDArray[Any]:
    height, width = pixels.shape[:2]
    placement = place((height, width), NETWORK, policy)
    tables = {n: np.ascontiguousarray(a) for n, a in vars(make_tables(placement, DECODER)).items()}
    pitch = 3 * width + pad
    rows = np.zeros((height, pitch), np.uint8)
    rows[:, : 3 * width] = (pixels[:, :, ::-1] if bgr else pixels).reshape(height, -1)
    out = np.empty((3, *NETWORK), dtype)
    sizes = {"pixels": rows.nbytes, "planes": out.nbytes} | {n: a.nbytes for n, a in tables.items()}
    block = Block(cuda, sizes)
    scale, shift = normalisation(Preprocessing())
    for name, array in (("pixels", rows), *tables.items()):
        cuda.upload(block.at(name), array, stream)
    argument = PREPARE.pack(
        block.at("pixels"),
        block.at("planes"),
        *(block.at(n) for n in ("columns", "column_taps", "rows", "row_taps")),
        pitch,
        tables["column_taps"].shape[1],
        tables["row_taps"].shape[1],
        *NETWORK,
        placement.top,
        placement.left,
        *placement.content,
        bgr,
        *scale,
        *shift,
    )
    kernels.prepare(dtype, NETWORK[1], NETWORK[0], argument, stream)
    cuda.download(out, block.at("planes"), stream)
    cuda.synchronise(stream)
    block.free()
    return out.astype(np.float32)


def _vote(
    cuda: Cuda,
    kernels: FrameKernels,
    stream: Any,
    logits: NDArray[Any],
    shots: list[int],
    size: tuple[int, int],
    policy: str,
) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    classes, count = len(shots), size[0] * size[1]
    tables = vars(make_tables(place(size, NETWORK, policy), DECODER))
    sent = {n: np.ascontiguousarray(tables[n]) for n in ("low_x", "along_x", "low_y", "along_y")}
    sent["first"] = np.cumsum([0, *shots]).astype(np.int32)
    sent["logits"] = logits
    masks = np.empty((classes, *size), np.uint8)
    scores = np.empty((classes, *size), np.float32)
    labels = np.empty(size, np.uint8)
    sizes = {n: a.nbytes for n, a in sent.items()}
    sizes |= {"votes": 2 * classes * count, "counts": 4 * (classes + 1)}
    sizes |= {"masks": masks.nbytes, "scores": scores.nbytes, "labels": count}
    block = Block(cuda, sizes)
    for name, array in sent.items():
        cuda.upload(block.at(name), array, stream)
    cuda.zero(block.at("counts"), sizes["counts"], stream)
    names = ("logits", "low_x", "along_x", "low_y", "along_y", "first", "votes", "scores", "counts")
    argument = VOTE.pack(
        *(block.at(n) for n in names), logits.size, len(logits), classes, *DECODER, *size
    )
    kernels.vote(logits.dtype, size[1], size[0], argument, stream)
    parts = ("votes", "scores", "counts", "labels", "masks")
    kernels.settle(count, SETTLE.pack(*(block.at(n) for n in parts), classes, count), stream)
    for name, array in (("masks", masks), ("scores", scores), ("labels", labels)):
        cuda.download(array, block.at(name), stream)
    cuda.synchronise(stream)
    block.free()
    return masks, scores, labels


def _refine(
    cuda: Cuda,
    kernels: FrameKernels,
    stream: Any,
    planes: NDArray[Any],
    logits: NDArray[Any],
) -> tuple[NDArray[np.float32], bool]:
    """Refine logits [S,2,h,w] in chunks of two shots -> [S,2,2h,2w], and whether any is not finite.

    `planes`: the network's input [3,H,W].
    """
    shots, _, height, width = logits.shape
    positions, chunk = height * width, 2 * logits[0].size
    refined = np.empty((shots, 2, FINER * height, FINER * width), np.float32)
    invalid = np.empty(1, np.int32)
    sizes = {"planes": planes.nbytes, "chunks": logits.itemsize * (-(-shots // 2) * (chunk + 5))}
    sizes |= {"fine": 12 * FINER**2 * positions, "guide": 12 * positions, "invalid": 4}
    sizes |= {"lines": 16 * shots * positions, "logits": refined.nbytes}
    sizes |= {"counts": histogram_bytes(shots), "values": 4 * shots * positions}
    block = Block(cuda, sizes)
    planes = np.ascontiguousarray(planes)
    cuda.upload(block.at("planes"), planes, stream)
    chunks = [np.ascontiguousarray(logits[first : first + 2]) for first in range(0, shots, 2)]
    for index, part in enumerate(chunks):
        cuda.upload(block.at("chunks") + index * (chunk + 5) * logits.itemsize, part, stream)
    cuda.zero(block.at("invalid"), 4, stream)
    cuda.zero(block.at("counts"), sizes["counts"], stream)
    radii = (radius(height), radius(width))
    at = {name: block.at(name) for name in sizes}
    argument = GUIDE.pack(
        at["planes"],
        at["fine"],
        at["guide"],
        *planes.shape[1:],
        height,
        width,
        *Preprocessing().std,
    )
    kernels.guide(planes.dtype, FINER * width, FINER * height, argument, stream)
    argument = COLOUR.pack(
        *(at[name] for name in ("chunks", "guide", "counts", "values", "invalid")),
        chunk + 5,
        2,
        height,
        width,
        *Preprocessing().mean,
        WEIGHT,
        SURE,
        RAREST,
        MOST,
    )
    kernels.weigh(logits.dtype, positions, shots, argument, stream)
    names = (at[name] for name in ("values", "guide", "lines"))
    argument = FIT.pack(*names, height, width, *radii, EPSILON)
    kernels.fit(positions, shots, argument, stream)
    argument = REFINE.pack(at["lines"], at["fine"], at["logits"], height, width, *radii, SUREST)
    kernels.refine(FINER**2 * positions, shots, argument, stream)
    cuda.download(refined, at["logits"], stream)
    cuda.download(invalid, at["invalid"], stream)
    cuda.synchronise(stream)
    block.free()
    return refined, bool(invalid[0])


def _likeness(
    cuda: Cuda,
    kernels: FrameKernels,
    stream: Any,
    last: NDArray[Any],
    vectors: NDArray[np.float32],
) -> NDArray[np.float32]:
    """Best matches, float32 [N], of a query's features [C,h*w] with the objects' vectors [N,C]."""
    objects, best = tiled(vectors), np.empty(len(vectors), np.float32)
    sizes = {"last": last.nbytes, "objects": objects.nbytes, "best": best.nbytes}
    block = Block(cuda, sizes)
    cuda.upload(block.at("last"), last, stream)
    cuda.upload(block.at("objects"), objects, stream)
    cuda.zero(block.at("best"), best.nbytes, stream)
    argument = LIKENESS.pack(*(block.at(name) for name in sizes), *last.shape, len(vectors))
    kernels.likeness(last.dtype, last.shape[1], len(vectors), argument, stream)
    cuda.download(best, block.at("best"), stream)
    cuda.synchronise(stream)
    block.free()
    return best
