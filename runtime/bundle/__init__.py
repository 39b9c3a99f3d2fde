"""A bundle on disk: its manifest, and the folder whose every file the manifest vouches for.

In: a folder. Out: a `Bundle`, whose files are checked before anything reads them; a written bundle,
whole or not at all. May import: no other room.
"""

from hsnet_trt.runtime.bundle.bundle import MANIFEST, Bundle, describe
from hsnet_trt.runtime.bundle.writing import BundleWriter, write_bundle

__all__ = ["MANIFEST", "Bundle", "BundleWriter", "describe", "write_bundle"]
