"""How many pictures a second a Triton server gives its clients, and how long each one waits.

    python -m hsnet_trt.benchmarks.speed.triton_load BUNDLE localhost:8001 --clients 1 8

BUNDLE, the one that the server's repository was made from, gives the speed without a server: the
same pictures, one after the other, in this process. They are random JPEGs of 640 x 480 pixels; the
content does not affect the time.
"""

from __future__ import annotations

import argparse
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from hsnet_trt import FewShotSegmenter
from hsnet_trt.serving.triton_server.client import SegmentationClient


def measure(call: Callable[[int], object], clients: int, seconds: float) -> tuple[float, float]:
    """Pictures per second with that many concurrent callers, and median milliseconds of one."""
    took: list[list[float]] = [[] for _ in range(clients)]
    end = time.perf_counter() + seconds

    def work(index: int) -> None:
        number = index
        while (start := time.perf_counter()) < end:
            call(number)
            took[index].append(time.perf_counter() - start)
            number += clients

    threads = [threading.Thread(target=work, args=(index,)) for index in range(clients)]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    every = [one for part in took for one in part]
    return len(every) / (time.perf_counter() - began), 1000 * float(np.median(every))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("bundle", type=Path)
    parser.add_argument("url", help="the server's host and gRPC port")
    parser.add_argument("--model", default="hsnet")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--seconds", type=float, default=20.0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        pictures = _pictures(Path(folder))
        mask = np.zeros((480, 640), bool)
        mask[100:380, 150:450] = True
        print("| | pictures a second | median ms |\n|---|---|---|")
        with FewShotSegmenter.load(options.bundle) as segmenter:
            segmenter.set_support("it", pictures[0], mask)
            segmenter.segment(pictures[0])
            rate, wait = measure(
                lambda n: segmenter.segment(pictures[n % len(pictures)]), 1, options.seconds
            )
            print(f"| no server, {segmenter.backend} | {rate:.2f} | {wait:.0f} |")
        with SegmentationClient(options.url, options.model) as client:
            supports = client.register({"it": [(pictures[0], mask)]})
            client.segment(pictures[0], supports)
            for clients in options.clients:
                rate, wait = measure(
                    lambda n: client.segment(pictures[n % len(pictures)], supports, large=False),
                    clients,
                    options.seconds,
                )
                print(f"| {clients} clients | {rate:.2f} | {wait:.0f} |")
            client.forget(supports)


def _pictures(folder: Path) -> list[Path]:
    rng = np.random.default_rng(0)
    paths = []
    for number in range(8):
        small = Image.fromarray(rng.integers(0, 256, (12, 16, 3), dtype=np.uint8))
        paths.append(folder / f"{number}.jpg")
        small.resize((640, 480), Image.Resampling.BICUBIC).save(paths[-1], quality=90)
    return paths


if __name__ == "__main__":
    main()
