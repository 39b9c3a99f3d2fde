"""The `hsnet-trt` command as a person runs it: another process, in a folder of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def hsnet(
    *arguments: object, folder: Path, timeout: float = 120
) -> subprocess.CompletedProcess[str]:
    """Run it; whoever calls looks at the exit code."""
    return subprocess.run(
        [sys.executable, "-m", "hsnet_trt.cli.main", *map(str, arguments)],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
