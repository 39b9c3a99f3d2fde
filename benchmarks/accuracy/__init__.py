"""Accuracy, judged: networks and trivial answers on the same episodes, by the paper's protocol.

In: bundles or checkpoints, episodes. Out: mIoU with intervals, pages; the shipped model's recipe.
May import: no other room.
"""
