"""Many images against one support set, on Ray: planned, run in parts, resumed after a stop.

In: a bundle, supports, folders of images. Out: Parquet files. May import: `serving.store`.
"""
