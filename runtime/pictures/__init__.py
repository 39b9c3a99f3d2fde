"""Pictures in, pictures out: reading, resizing, masks, logits to masks, results, overlays.

In: files and arrays as people have them. Out: the network's input, and `Segmentation`.
NumPy and Pillow only. May import: `bundle`.
"""
