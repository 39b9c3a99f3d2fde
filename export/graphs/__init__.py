"""From the PyTorch model to the three ONNX graphs, in each lowering, compared with PyTorch.

A tensor's shape is written from the outermost dimension to the innermost, with these letters:

| letter | dimension |
|---|---|
| N | images in one call of `features` |
| B, S | queries and supports (the shots of all classes) in one call of `match` |
| P | pairs of a query and a support, P = B*S; the support changes fastest |
| L | layers of one pyramid level |
| C, O, G | channels; output channels of a convolution; groups of a group norm |
| H, W | the network's input, in pixels |
| h, w | positions of a feature level; h2, w2 those of level 2 |
| hq, wq, Q | query positions, Q = hq*wq |
| hs, ws, M | support positions, M = hs*ws |
| row | positions and the zeros that fill them up (`trt_plugins.sizes.ROW_UNIT`) |
| k | a kernel's extent |
| R, T | `packed` alone: rows (support positions under the masks), and windows that touch one |

A prime (M', hs') marks the positions that a stride keeps.

In: an `HSNet`. Out: `features`, `support` and `match` for one size, golden inputs and outputs, and
the differences from PyTorch. May import: `export.precision`.
"""
