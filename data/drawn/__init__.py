"""Episodes without end: drawn scenes (`procedural`), and pieces of photographs (`photo_cut`).

In: a seed, photographs. Out: `Episodes`. Needs OpenCV. May import: `data.episodes`.
"""
