"""real-v1: real photographs by which models are judged, and which no recipe may learn from.

In: packages that anybody can install, and the masks beside this file. Out: a folder set, and the
three figures of a checkpoint: clean, mosaic, absent.
May import: `benchmarks.accuracy`.
"""
