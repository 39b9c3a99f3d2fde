"""Train HSNet on episodes: plain PyTorch, on one GPU or on the CPU.

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
| `loop` | `train`: the whole run |

`benchmarks/recipe` trains a model like the shipped one with one command. How the shipped model was
trained is recorded in `model/shipped/model.json`.
"""
