"""The house itself: style, types, the arrows of import, and the ways it can be imported."""

from __future__ import annotations

import ast
import configparser
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def packages() -> dict[str, Path]:
    """Import package -> folder, as setup.cfg maps them."""
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    lines = config["options"]["package_dir"].split("\n")
    return {
        name.strip(): ROOT / folder.strip()
        for name, folder in (line.split("=") for line in lines if line.strip())
    }


PACKAGES = packages()
STAGES = {name.split(".")[1]: folder for name, folder in PACKAGES.items() if "." in name}

# What a stage may import of the others (the arrows run one way), on top of `hsnet_trt.errors` and
# `hsnet_trt.files`.
ARROWS = {
    "model": set(),
    "data": set(),
    "trt_plugins": set(),
    "runtime": {"trt_plugins"},
    "calibration": {"data", "runtime"},
    "training": {"model", "data"},
    "serving": {"data", "runtime", "trt_plugins"},
    "export": {"model", "trt_plugins", "calibration", "runtime"},
}
# What the edge does not have, and no stage loads when it is imported.
HEAVY = {"torch", "onnx", "tensorrt", "tensorrt_rtx", "pycuda", "onnxruntime", "cv2", "skimage"}


def imports(path: Path) -> set[str]:
    """Every module that a file imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found.add(node.module or "")
    return found


def run(code: str, cwd: Path, path: Path | None = None) -> str:
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    if path is not None:
        environment["PYTHONPATH"] = str(path)
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.xdist_group("a group")
def test_workers_heed_groups(request):
    """By its name a test comes to the worker of its group."""
    if not getattr(request.config.option, "loadgroup", False):
        pytest.skip("not distributed by groups")
    assert request.node.nodeid.endswith("@a group")


def test_every_folder_of_code_is_a_package():
    listed = subprocess.run(
        ["git", "ls-files", "*.py"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if listed.returncode:
        pytest.skip("not a git checkout")
    folders = {Path(name).parts[0] for name in listed.stdout.split()} - {"tests"}
    assert folders == {path.name for path in PACKAGES.values()}
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    assert set(config["options"]["packages"].split()) >= set(PACKAGES)


@pytest.mark.parametrize("stage", sorted(set(STAGES) & set(ARROWS)))
def test_arrows_of_import(stage):
    allowed = ARROWS[stage] | {stage}
    for path in STAGES[stage].rglob("*.py"):
        for module in imports(path):
            parts = module.split(".")
            if module == "hsnet_trt.cli.main" and path.name == "build_engine.py":
                continue  # `python -m hsnet_trt.export.build_engine` is the command itself
            if parts[0] == "hsnet_trt" and len(parts) > 1 and parts[1] not in ("errors", "files"):
                assert parts[1] in allowed, f"{path.relative_to(ROOT)} imports {module}"


def test_runtime_never_imports_what_the_edge_lacks():
    for path in STAGES["runtime"].rglob("*.py"):
        roots = {module.split(".")[0] for module in imports(path)}
        if path.name in ("opencv_capture.py", "motion.py"):
            roots.remove("cv2")  # only if a camera is opened through it, or a video followed
        assert not roots & {"torch", "onnx", "polygraphy", "cv2", "matplotlib"}, path


@pytest.mark.parametrize(
    "module",
    [
        "hsnet_trt",
        "hsnet_trt.runtime.segmenter",
        "hsnet_trt.export.build_engine",
        "hsnet_trt.cli.main",
    ],
)
def test_light_imports(module, tmp_path):
    code = f"import sys, {module}; print(sorted({HEAVY} & set(sys.modules)))"
    assert run(code, tmp_path, ROOT) == "[]"


def test_source_tree_from_any_folder():
    """Also from inside the folders, whose file names must not hide a library's.

    From inside, Python finds a folder's own files first: none is called as anything is that was
    imported from elsewhere.
    """
    code = (
        "import sys, hsnet_trt, hsnet_trt.model, hsnet_trt.runtime, hsnet_trt.cli.main;"
        "from hsnet_trt import FewShotSegmenter, HSNetError;"
        "print(hsnet_trt.runtime.__file__, *{name.split('.')[0] for name in sys.modules})"
    )
    for folder in (ROOT.parent, STAGES["runtime"]):
        file, *imported = run(code, folder, ROOT).split()
        assert file == str(ROOT / "runtime" / "__init__.py")
    assert {"torch", "numpy", "typer", "inspect"} < set(imported)
    for folder in STAGES.values():
        own = {path.stem for path in folder.glob("*.py")}
        own |= {path.name for path in folder.iterdir() if path.is_dir()}
        assert not own & set(imported), folder


def test_wheel(tmp_path):
    """What is installed from a wheel imports by the same names, and holds its data files."""
    options = ["--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", str(tmp_path)]
    command = [sys.executable, "-m", "pip", "wheel", *options, str(_copy(tmp_path))]
    subprocess.run(command, check=True)
    (wheel,) = tmp_path.glob("*.whl")
    zipfile.ZipFile(wheel).extractall(tmp_path / "site")
    listed = {
        path.relative_to(tmp_path / "site").parts[1:]
        for path in (tmp_path / "site" / "hsnet_trt").rglob("*.py")
    }
    for name, folder in STAGES.items():
        for path in folder.rglob("*.py"):
            assert (name, *path.relative_to(folder).parts) in listed
    site = tmp_path / "site" / "hsnet_trt"
    assert (site / "serving" / "app" / "page" / "main.js").is_file()
    for name, folder in STAGES.items():
        for path in folder.rglob("kernels/*.[ch]*"):
            assert (site / name / path.relative_to(folder)).is_file(), path
    code = (
        "import hsnet_trt, hsnet_trt.model as m, hsnet_trt.cli.demo as d, pathlib;"
        "from hsnet_trt import FewShotSegmenter;"
        "print(m.__file__, len(list(pathlib.Path(d.__file__).parent.glob('demo_masks/*.png'))))"
    )
    found = run(code, tmp_path, tmp_path / "site")
    assert found == f"{tmp_path / 'site' / 'hsnet_trt' / 'model' / '__init__.py'} 2"
    code = (
        "from hsnet_trt.benchmarks.limits import estimate, plugin_prediction;"
        "print(len(estimate.checks()), plugin_prediction.EARLIER.is_file())"
    )
    assert run(code, tmp_path, tmp_path / "site") == "12 True"


def _copy(tmp_path: Path) -> Path:
    """The tracked files alone: building in place would leave a folder of artefacts behind."""
    source = tmp_path / "source"
    names = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    ).stdout.split("\n")
    if not any(names):
        pytest.skip("not a git checkout")
    for name in filter(None, names):
        if not name.startswith("tests/") and (ROOT / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes((ROOT / name).read_bytes())
    return source


def test_ruff():
    done = subprocess.run(
        [sys.executable, "-m", "ruff", "check", "--quiet", "."],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout


def test_ruff_format():
    done = subprocess.run(
        [sys.executable, "-m", "ruff", "format", "--check", "--quiet", "."],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout


def test_mypy_strict(tmp_path):
    """On the packages laid out as a wheel lays them out, which mypy can follow."""
    tree = tmp_path / "hsnet_trt"
    tree.mkdir()
    for path in (ROOT / "hsnet_trt").iterdir():
        (tree / path.name).symlink_to(path)
    for name, folder in STAGES.items():
        (tree / name).symlink_to(folder)
    # What mypy learned of libraries is kept: torch alone takes it most of a minute.
    command = [sys.executable, "-m", "mypy", "--cache-dir", str(ROOT / ".mypy_cache")]
    done = subprocess.run(
        [*command, "--config-file", str(ROOT / "setup.cfg"), "-p", "hsnet_trt"],
        cwd=tmp_path,
        env={**os.environ, "MYPYPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
