"""kill -9 at every step that a writer takes on the disk: the old result or the new one is whole."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.places import ROOT

# Each run is a fork that kills itself before its n-th change on the disk, for n = 1, 2, ...; after
# each, what is there must be whole. The last run comes through, and nothing of the others is left.
DRIVER = """
import dataclasses, os, signal, sys
from pathlib import Path
import numpy as np
from helpers.bundles.tiny import make_bundle
from hsnet_trt.runtime.bundle import Bundle, scratch, write_bundle
from hsnet_trt.runtime.bundle.variants import add_variants
from hsnet_trt.runtime.matching.packing import Columns
from hsnet_trt.runtime.matching.support_set import Origin, SupportSet

kind, folder = sys.argv[1], Path(sys.argv[2])
if kind == "where folders cannot be exchanged":
    scratch._exchange = lambda one, other: False
bundle = make_bundle(folder / "bundle")
whole = Bundle.open(bundle)
manifest, files = whole.manifest, {name: whole.read(name) for name in whole.manifest.files}
origin = Origin.of(manifest, manifest.sizes[0])
shot = {
    level: Columns(np.arange(2), np.ones((layers, 2, channels), np.float32), positions)
    for level, (layers, channels, positions) in zip(("s2", "s3", "s4"), origin.shapes)
}
target = folder / "supports.npz"


def write():
    if kind == "supports":
        SupportSet({"mug": [shot]}).save(target, origin)
    elif kind == "variants":
        add_variants(Bundle.open(bundle), bundle, [], command="again")
    else:
        with write_bundle(bundle) as writer:
            for name, content in files.items():
                writer.add(name, content)
            writer.finish(dataclasses.replace(manifest, commands=("again",)))


def check():
    if kind == "supports":
        return target.exists() and SupportSet.load(target, origin).shots == [1]
    if not bundle.exists() and kind == "where folders cannot be exchanged":
        return False  # put aside; the next run puts it back
    Bundle.open(bundle).check()
    return True


if kind == "supports":
    write()
CHANGES = ("os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.chmod")
moments = aside = 0
while True:
    moments += 1
    child = os.fork()
    if child == 0:
        left = [moments]

        def step(event, arguments):
            writes = event == "open" and isinstance(arguments[2], int) and (
                arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))
            if event in CHANGES or writes:
                left[0] -= 1
                if left[0] == 0:
                    os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(step)
        write()
        os._exit(0)
    status = os.waitpid(child, 0)[1]
    aside += not check()
    if status == 0:
        break
    assert os.WTERMSIG(status) == signal.SIGKILL, status
kept = sorted(p.name for p in folder.iterdir())
print(moments - 1, aside, ",".join(kept))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
@pytest.mark.parametrize(
    "kind", ["export", "variants", "supports", "where folders cannot be exchanged"]
)
def test_killed_at_every_step(kind: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", DRIVER, kind, str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
        env={**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}"},
    )
    assert done.returncode == 0, done.stderr
    moments, aside, kept = done.stdout.split()
    print(f"{kind}: {moments} moments, {aside} of them with the old one put aside")
    assert int(moments) >= 5
    # Between its two moves, and until the next run has come so far as to put it back.
    assert int(aside) <= (3 if kind.startswith("where") else 0)
    assert kept == ("bundle,supports.npz" if kind == "supports" else "bundle")
