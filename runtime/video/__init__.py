"""Frames of a video: shots remembered from earlier frames, logits averaged along the motion.

In: the logits and features of each frame, in order. Out: temporally smoothed logits, and the shots
that the next frame is matched with. May import: `matching`, `pictures`, `bundle`.
"""
