"""Frames as a video: what is remembered of earlier ones, and scores averaged along the motion.

In: the logits and features of one frame after the other. Out: steadier planes of logits, and the
shots that the next frame is matched with. May import: `matching`, `pictures`, `bundle`.
"""
