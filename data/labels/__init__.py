"""Masks without painting: COCO and LabelMe files, boxes and scribbles (GrabCut).

In: a labelling tool's files, or a picture with a box. Out: masks. May import: `data.episodes`.
"""
