"""Endless episodes: drawn scenes (`procedural`), and pieces of photographs (`photo_cut`).

`mixture` is the recipe's training data: objects in their photographs, cut out of them, and drawn.
`videos` animates the same sources, with a true mask for every frame.

In: a seed, photographs. Out: `Episodes`, `Videos`. Needs OpenCV. May import: `data.episodes`.
"""
