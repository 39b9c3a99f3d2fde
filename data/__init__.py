"""Episodes for few-shot segmentation, without torch: datasets, drawn scenes, and metrics.

| module or room | content |
|---|---|
| `episodes` | `Episode`, `Episodes`, sampling, mIoU, video metrics, trivial answers |
| `sets` | readers of datasets on disk: `pascal`, `coco`, `fss`, `folder` |
| `drawn` | endless: `procedural`, `mixture` (OpenCV), `photo_cut` (also scikit-image), `videos` |
| `labels` | masks from COCO's and LabelMe's files, boxes and scribbles |
| `sources` | opens any source of episodes by its name on the command line |
| `sheet` | episodes drawn as one picture |
"""
