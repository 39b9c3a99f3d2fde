"""Episodes without end: drawn scenes (`procedural`), and pieces of photographs (`photo_cut`).

`mixture` is what the recipe learns from: things in their photographs, cut out, and drawn.
`videos` moves what they show, with truth for every frame.

In: a seed, photographs. Out: `Episodes`, `Videos`. Needs OpenCV. May import: `data.episodes`.
"""
