"""TensorRT's messages: to logging, and as the reason of the error that they belong to."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest
from helpers.bundles.tiny import make_bundle
from helpers.bundles.with_engines import VERSION, engine_bundle, engines
from helpers.fakes.gpu import install
from helpers.fakes.pycuda import FakeDriver
from helpers.fakes.tensorrt import fake_tensorrt

from hsnet_trt.errors import BackendError
from hsnet_trt.runtime.bundle import Bundle
from hsnet_trt.runtime.engines.logger import shared_logger
from hsnet_trt.runtime.engines.runner import TensorRTRunner


def test_the_second_runner_of_a_process_gives_reasons_as_the_first_one_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    driver, made = FakeDriver(), engines()
    trt = fake_tensorrt(driver, VERSION)
    install(monkeypatch, driver, trt)
    first = TensorRTRunner(engine_bundle(tmp_path / "b", made), made)
    extra = {entry.file: b"bad" for entry in made.values()}
    path = make_bundle(tmp_path / "bad", replace={"engines": tuple(made.values())}, extra=extra)
    with pytest.raises(BackendError, match="refuses the engine") as caught:
        TensorRTRunner(Bundle.open(path), made)
    assert caught.value.found == "the magic tag does not match"
    assert "logger differs" not in caplog.text
    trt.engines[0].contexts[0].broken = True
    first.run("features", {"image": np.zeros((1, 3, 96, 128), np.float32)})
    assert "features failed (None)" in caplog.text  # the other one's reason is not this one's
    first.close()
    assert driver.settled()


def test_messages_by_severity_and_an_error_once_to_the_thread_whose_it_is(
    caplog: pytest.LogCaptureFixture,
) -> None:
    trt = pytest.importorskip("tensorrt_rtx")
    logger, severity = shared_logger(trt), trt.ILogger.Severity
    assert isinstance(logger, trt.ILogger) and shared_logger(trt) is logger
    logger.log(severity.ERROR, "100 % wrong")
    logger.log(severity.WARNING, "odd")
    logger.log(severity.INFO, "all well")
    other = threading.Thread(target=logger.log, args=(severity.INTERNAL_ERROR, "elsewhere"))
    other.start()
    other.join()
    assert logger.take_error() == "100 % wrong" and logger.take_error() is None
    assert [r.levelname for r in caplog.records] == ["ERROR", "WARNING", "ERROR"]


def test_tensorrt_takes_it_for_several_runtimes(caplog: pytest.LogCaptureFixture) -> None:
    """The real library, which reads an engine's header before it looks for a GPU."""
    trt = pytest.importorskip("tensorrt_rtx")
    first, second = (trt.Runtime(shared_logger(trt)) for _ in range(2))
    assert "logger passed" not in caplog.text
    del first
    assert second.deserialize_cuda_engine(b"no engine" * 99) is None
    assert shared_logger(trt).take_error()
