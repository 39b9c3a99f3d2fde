"""Learning HSNet from episodes: plain PyTorch, one GPU or none.

| module | what it is |
|---|---|
| `settings` | `Settings`: the data, the network and the recipe |
| `batches` | episodes as batches of tensors, drawn by worker processes |
| `recycling` | drawn episodes kept on the device and used several times |
| `supply` | the batch of each step, from a pool, augmented and resized |
| `augmentation` | flips, warps and other colours, on tensors |
| `averaging` | the running mean of the weights |
| `objective` | the loss of a batch |
| `validation` | mIoU of a network on episodes |
| `keeping` | the state of a run on disk, and resuming from it |
| `reporting` | progress, TensorBoard and the log |
| `loop` | `train`: all of it |

The recipe that learns a model like the shipped one in one command is `benchmarks/recipe`. How the
model that is shipped was learned stands in `model/shipped/model.json`.
"""
