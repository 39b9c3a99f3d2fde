"""Episodes without end: drawn scenes (`procedural`), and pieces of photographs (`photo_cut`).

`videos` moves what they show, with truth for every frame.

In: a seed, photographs. Out: `Episodes`, `Videos`. Needs OpenCV. May import: `data.episodes`.
"""
