"""Episodes (a query, supports, masks), how they are sampled, and how answers are judged.

In: pictures and masks. Out: `Episode`, `Episodes`; mIoU and FB-IoU; J, F and flicker of
videos. May import: no other room.
"""
