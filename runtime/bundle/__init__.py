"""Bundles on disk: a folder of files and its manifest, which holds the hash of each file.

In: a folder. Out: a `Bundle`, whose files are checked when they are read; or a bundle written
completely or not at all. May import: no other room.
"""

from hsnet_trt.runtime.bundle.bundle import MANIFEST, Bundle, describe
from hsnet_trt.runtime.bundle.writing import BundleWriter, check_place, write_bundle

__all__ = ["MANIFEST", "Bundle", "BundleWriter", "check_place", "describe", "write_bundle"]
