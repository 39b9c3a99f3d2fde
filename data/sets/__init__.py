"""Readers of datasets on disk: PASCAL-5i, COCO-20i, FSS-1000, a folder of your own.

In: a dataset's folder. Out: `Episodes`. May import: `data.episodes`.
"""
