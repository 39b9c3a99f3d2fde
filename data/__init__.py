"""Episodes for few-shot segmentation, without torch: datasets, drawn scenes, and their judging.

| module | what it is |
|---|---|
| `episode` | `Episode`, `Episodes` (by number, or `take(n)`), `Skipped` |
| `pascal`, `coco`, `fss`, `folder` | readers of datasets on disk |
| `procedural` | endless drawn episodes (needs OpenCV) |
| `photo_cut` | endless episodes from any folder of photographs (needs OpenCV, scikit-image) |
| `metrics` | mIoU, FB-IoU, per class, with a confidence interval |
| `trivial` | the answers that need no network |
| `sheet` | episodes as a picture |
"""
