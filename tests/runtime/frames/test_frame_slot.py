"""Frames on their way to a GPU that is not there, stripe by stripe."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest
from helpers.fakes.gpu import install
from helpers.fakes.pycuda import FakeDriver
from helpers.fakes.tensorrt import fake_tensorrt

from hsnet_trt.errors import BackendError
from hsnet_trt.runtime.device.driver import Cuda, open_cuda
from hsnet_trt.runtime.device.gpu_lock import GpuLock
from hsnet_trt.runtime.frames import frame_slot
from hsnet_trt.runtime.frames.frame_slot import Slot

SIZE = (37, 29)


@pytest.fixture(params=[True, False], ids=["pycuda", "cuda-bindings"])
def opened(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> tuple[Cuda, FakeDriver]:
    """Stripes of at least 500 bytes: a frame of that size has six."""
    driver = FakeDriver()
    fake = fake_tensorrt(driver, "10.3.0")
    install(monkeypatch, driver, fake, pycuda=request.param, bindings=True)
    monkeypatch.setattr(frame_slot, "_STRIPE", 500)
    return open_cuda(), driver


def frame(form: str) -> np.ndarray:
    pixels = np.random.default_rng(0).integers(0, 256, (SIZE[0], SIZE[1] + 3, 3), dtype=np.uint8)
    return pixels[:, 3:] if form == "padded rows" else np.ascontiguousarray(pixels[:, 3:])


def on_device(cuda: Cuda, slot: Slot, stream: Any) -> np.ndarray:
    back = np.empty((*SIZE, 3), np.uint8)
    cuda.download(back, slot.pixels.address, stream)
    cuda.synchronise(stream)
    return back


@pytest.mark.parametrize("form", ["whole", "padded rows"])
@pytest.mark.parametrize("held", [False, True], ids=["", "while another thread enqueues"])
def test_every_row_arrives(opened: tuple[Cuda, FakeDriver], form: str, held: bool) -> None:
    cuda, driver = opened
    let_go, holds = threading.Event(), threading.Event()

    class Lock(GpuLock):
        """Is let go once the last stripe waits for it."""

        def acquire(self, *, blocking: bool = True) -> bool:
            if blocking:
                let_go.set()
            return super().acquire(blocking=blocking)

    pixels, lock = frame(form), Lock()

    def hold() -> None:
        with lock:
            holds.set()
            assert let_go.wait(20)

    with cuda.current():
        slot, stream = Slot(cuda, mapped=False), cuda.stream()
        slot.fit(SIZE, 1, 1, masks=False, scores=False)
        if held:
            thread = threading.Thread(target=hold)
            thread.start()
            assert holds.wait(20)
        staged = slot.bring(pixels, stream, lock)
        cuda.record(slot.events["uploaded"], stream)
        assert staged >= 0 and driver.copies == ["in"] * (1 if held else 6)
        np.testing.assert_array_equal(on_device(cuda, slot, stream), pixels)
        assert cuda.elapsed_ms(slot.events["begun"], slot.events["uploaded"]) > 0
        slot.free()
        cuda.destroy(stream)
    if held:
        thread.join()
    cuda.close()
    assert driver.settled()


def test_the_upload_begins_before_the_copy_has_ended(
    opened: tuple[Cuda, FakeDriver], monkeypatch: pytest.MonkeyPatch
) -> None:
    cuda, driver = opened
    pixels, lock = frame("whole"), GpuLock()
    ready = []
    with cuda.current():
        slot, stream = Slot(cuda, mapped=False), cuda.stream()
        slot.fit(SIZE, 1, 1, masks=False, scores=False)
        slot.pixels.host[: pixels.size].reshape(pixels.shape)[...] = ~pixels
        true_copy = driver.copy_in

        def noted(target: int, source: int, size: int, *rest: Any) -> None:
            host = slot.pixels.host[: pixels.size].reshape(pixels.shape)
            ready.append(int((host == pixels).all((1, 2)).sum()))
            true_copy(target, source, size, *rest)

        monkeypatch.setattr(driver, "copy_in", noted)
        slot.bring(pixels, stream, lock)
        assert ready == [6, 12, 18, 24, 30, 37]
        cuda.synchronise(stream)
        slot.free()


def test_mapped_memory_is_copied_into_in_one_piece(opened: tuple[Cuda, FakeDriver]) -> None:
    cuda, driver = opened
    with cuda.current():
        slot, stream = Slot(cuda, mapped=True), cuda.stream()
        slot.fit(SIZE, 1, 1, masks=False, scores=False)
        slot.bring(frame("padded rows"), stream, GpuLock())
        host = slot.pixels.host[: 3 * SIZE[0] * SIZE[1]].reshape(*SIZE, 3)
        np.testing.assert_array_equal(host, frame("whole"))
        assert driver.copies == []
        slot.free()


def test_after_a_failure_nothing_reads_the_slot_any_more(
    opened: tuple[Cuda, FakeDriver], monkeypatch: pytest.MonkeyPatch
) -> None:
    cuda, _ = opened
    with cuda.current():
        slot, stream = Slot(cuda, mapped=False), cuda.stream()
        slot.fit(SIZE, 1, 1, masks=False, scores=False)
        true_upload, count = cuda.upload, [0]

        def fails_later(*arguments: Any) -> None:
            count[0] += 1
            if count[0] == 3:
                raise BackendError("CUDA failed")
            true_upload(*arguments)

        waited = []
        monkeypatch.setattr(cuda, "upload", fails_later)
        monkeypatch.setattr(cuda, "synchronise", waited.append)
        with pytest.raises(BackendError, match="CUDA failed"):
            slot.bring(frame("whole"), stream, GpuLock())
        assert waited == [stream]
        slot.free()


def test_a_slot_that_was_freed_meanwhile_is_not_touched(opened: tuple[Cuda, FakeDriver]) -> None:
    cuda, driver = opened

    class Lock:
        """Whoever waits for it finds that the segmenter was closed."""

        def acquire(self, *, blocking: bool) -> bool:
            slot.free()
            return True

        def release(self) -> None:
            pass

        def __enter__(self) -> None:
            pass

        def __exit__(self, *_: object) -> None:
            pass

    with cuda.current():
        slot, stream = Slot(cuda, mapped=False), cuda.stream()
        slot.fit(SIZE, 1, 1, masks=False, scores=False)
        with pytest.raises(BackendError, match="closed while a frame was under way"):
            slot.bring(frame("whole"), stream, Lock())
        assert driver.copies == []
