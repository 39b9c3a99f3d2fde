"""Episodes: query, supports and masks; how they are sampled, and how an answer is judged.

In: pictures and masks. Out: `Episode`, `Episodes`; mIoU and FB-IoU; J, F and flicker of
videos. May import: no other room.
"""
