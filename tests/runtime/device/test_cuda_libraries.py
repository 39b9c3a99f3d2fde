"""The two CUDA libraries: the names that are used exist, and a driver without a GPU is met well."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.fakes.gpu import install
from helpers.fakes.pycuda import FakeDriver
from helpers.fakes.tensorrt import fake_tensorrt

from hsnet_trt.errors import BackendError
from hsnet_trt.runtime.device import cuda_graphs
from hsnet_trt.runtime.device import driver as cuda
from hsnet_trt.runtime.device import driver_bindings as cuda_bindings
from hsnet_trt.runtime.device import driver_pycuda as cuda_pycuda

DRIVER = "no GPU can be used"
PYCUDA = importlib.util.find_spec("pycuda")


def names_after(path: str, owners: set[str]) -> set[str]:
    """Attributes, dotted, of those expressions in a file."""
    found = set()
    for node in ast.walk(ast.parse(Path(path).read_text())):
        text = ast.unparse(node) if isinstance(node, ast.Attribute) else ""
        for owner in owners:
            if text.startswith(f"{owner}."):
                found.add(text.removeprefix(f"{owner}."))
    return found


def driver_calls(path: str) -> set[str]:
    return set(re.findall(r'"(cu[A-Z]\w+)"', Path(path).read_text()))


def test_cuda_bindings_has_every_name() -> None:
    """Its module needs no driver to be imported."""
    driver = pytest.importorskip("cuda.bindings.driver")
    calls = driver_calls(cuda_bindings.__file__) | driver_calls(cuda_graphs.__file__)
    assert {"cuMemAlloc", "cuLaunchKernel", "cuStreamBeginCapture", "cuGraphInstantiate"} <= calls
    used = names_after(cuda_bindings.__file__, {"self._cuda", "cuda"})
    used |= names_after(cuda_graphs.__file__, {"self._cuda", "cuda"})
    used |= {f"CUdevice_attribute.{n}" for n in names_after(cuda_bindings.__file__, {"flag"})}
    for name in calls | used:
        thing = driver
        for part in name.split("."):
            assert hasattr(thing, part), name
            thing = getattr(thing, part)
    assert int(driver.CUstream(7)) == 7
    assert issubclass(driver.CUresult, int) and int(driver.CUresult.CUDA_SUCCESS) == 0
    with pytest.raises(BackendError, match=DRIVER) as caught:
        cuda_bindings.BindingsDriver()
    assert caught.value.found


STUBBED = """
import sys
import pycuda.driver as driver
for name in sys.argv[1:]:
    thing = driver
    for part in name.split("."):
        assert hasattr(thing, part), name
        thing = getattr(thing, part)
from hsnet_trt.errors import BackendError
from hsnet_trt.runtime.device.driver import open_cuda
try:
    open_cuda()
except BackendError as error:
    print(error.summary, "|", error.found)
"""


@pytest.mark.skipif(PYCUDA is None, reason="pycuda is not installed")
def test_pycuda_has_every_name_and_a_driver_without_a_gpu_is_named(tmp_path: Path) -> None:
    """Against a stub of the driver that exports what pycuda links and answers 100 to cuInit."""
    assert PYCUDA is not None and PYCUDA.submodule_search_locations
    compiler, nm = shutil.which("gcc"), shutil.which("nm")
    if compiler is None or nm is None:
        pytest.skip("there is no C compiler")
    (module,) = Path(PYCUDA.submodule_search_locations[0]).glob("_driver*.so")
    listed = subprocess.run(
        [nm, "-D", "--undefined-only", module], capture_output=True, text=True, check=True
    )
    symbols = sorted(set(re.findall(r"\bU (cu[A-Z]\w+)", listed.stdout)))
    texts = [symbol for symbol in symbols if symbol.startswith("cuGetError")]
    body = "".join(
        f"int {symbol}() {{ return 100; }}\n" for symbol in symbols if symbol not in texts
    )
    for symbol in texts:
        body += f'int {symbol}(int e, const char **text) {{ *text = "no device"; return 0; }}\n'
    (tmp_path / "stub.c").write_text(body)
    stub = ["-shared", "-fPIC", "-Wl,-soname,libcuda.so.1", "-o", tmp_path / "libcuda.so.1"]
    subprocess.run([compiler, *stub, tmp_path / "stub.c"], check=True)
    used = names_after(cuda_pycuda.__file__, {"self._cuda", "cuda"})
    used |= {f"device_attribute.{n}" for n in names_after(cuda_pycuda.__file__, {"flag"})}
    used |= {"Stream.synchronize", "Stream.wait_for_event", "Stream.handle", "Event.record"}
    used |= {"Event.synchronize", "Event.time_till", "Device.retain_primary_context"}
    used |= {"Device.get_attribute", "Device.compute_capability", "Context.push", "Context.pop"}
    used |= {"Context.detach", "Module.get_function", "Function.prepare", "DeviceAllocation.free"}
    used |= {"Function.prepared_async_call", "HostAllocation.get_device_pointer"}
    used |= {"HostAllocation.free"}
    environment = dict(os.environ)
    paths = (str(tmp_path), environment.get("LD_LIBRARY_PATH", ""))
    environment["LD_LIBRARY_PATH"] = ":".join(filter(None, paths))
    environment["PYTHONPATH"] = os.pathsep.join(sys.path)
    done = subprocess.run(
        [sys.executable, "-c", STUBBED, *sorted(used)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"{DRIVER} | cuInit failed")


def test_without_either_library_both_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda, "has", lambda name: False)
    with pytest.raises(BackendError, match="neither pycuda nor cuda-bindings") as caught:
        cuda.open_cuda()
    assert "pip install" in str(caught.value.fix)


BROKEN = "_driver.so: undefined symbol: cuArrayCreate_v2"


@pytest.fixture
def broken_pycuda(monkeypatch: pytest.MonkeyPatch) -> FakeDriver:
    """A pycuda that is installed and whose driver module cannot be loaded."""
    driver = FakeDriver()
    install(monkeypatch, driver, fake_tensorrt(driver, "10.3.0"), pycuda=True, bindings=True)
    load = importlib.import_module

    def imported(name: str) -> object:
        if name == "pycuda.driver":
            raise ImportError(BROKEN)
        return load(name)

    monkeypatch.setattr(cuda_pycuda.importlib, "import_module", imported)
    cuda._warn_once.cache_clear()
    return driver


def test_cuda_bindings_stands_in_for_a_broken_pycuda_and_that_is_logged_once(
    broken_pycuda: FakeDriver, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(2):
        opened = cuda.open_cuda()
        assert opened.library == "cuda-bindings" and opened.facts.compute_capability == "8.9"
        opened.close()
    assert broken_pycuda.settled()
    (record,) = [r for r in caplog.records if r.levelname == "WARNING"]
    assert "cuda-bindings is used, because pycuda cannot be loaded" in record.message
    assert BROKEN in record.message


def test_a_broken_pycuda_alone_is_the_error(
    broken_pycuda: FakeDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "cuda.bindings", None)  # type: ignore[arg-type]
    with pytest.raises(BackendError, match="pycuda cannot be loaded") as caught:
        cuda.open_cuda()
    assert BROKEN in str(caught.value.found)


def test_two_broken_libraries_are_both_named(
    broken_pycuda: FakeDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse() -> object:
        raise BackendError("cuda-bindings cannot be loaded", found="too new")

    monkeypatch.setattr(cuda_bindings, "load_bindings", refuse)
    with pytest.raises(BackendError, match="neither pycuda nor cuda-bindings can be") as caught:
        cuda.open_cuda()
    assert BROKEN in str(caught.value.found) and "too new" in str(caught.value.found)


def test_the_seam_is_the_same_on_both_sides() -> None:
    """Both libraries' classes have exactly the public names of the protocol."""
    wanted = {n for n in vars(cuda.Cuda) if not n.startswith("_")}
    for side in (cuda_pycuda.PycudaDriver, cuda_bindings.BindingsDriver):
        assert {n for n in vars(side) if not n.startswith("_")} | {"facts"} == wanted


def test_a_driver_older_than_the_library_is_named() -> None:
    def lacking(*_: object) -> None:
        raise RuntimeError("Function cuGraphInstantiate not found")

    fake = type("driver", (), {"cuGraphInstantiate": staticmethod(lacking)})
    with pytest.raises(BackendError, match="too old") as caught:
        cuda_bindings.call_driver(fake, "cuGraphInstantiate", 1, 0)
    assert "cuda-bindings<13" in str(caught.value.fix)
