"""Accuracy: networks and trivial answers on the same episodes, by the paper's protocol.

In: bundles or checkpoints, episodes, videos. Out: mIoU, J and F with intervals, reports; the
recipe's photographs.
May import: no other room.
"""
