"""Pictures: reading, resizing, support masks, logits to masks, results, overlays.

In: image files and arrays in common forms. Out: the network's input, and `Segmentation`.
NumPy and Pillow only. May import: `bundle`.
"""
