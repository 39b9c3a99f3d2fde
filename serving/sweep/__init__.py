"""Segmenting many images with one support set, on Ray: planned, run in parts, resumable.

In: a bundle, supports, folders of images. Out: Parquet files. May import: `serving.store`.
"""
