"""Episodes for few-shot segmentation, without torch: datasets, drawn scenes, and their judging.

| module or room | content |
|---|---|
| `episodes` | `Episode`, `Episodes`, sampling, mIoU, measures of videos, trivial answers |
| `sets` | readers of datasets on disk: `pascal`, `coco`, `fss`, `folder` |
| `drawn` | endless: `procedural`, `mixture` (OpenCV), `photo_cut` (scikit-image, too), `videos` |
| `labels` | masks from COCO's and LabelMe's files, boxes and scribbles |
| `sources` | all sources of episodes by the names of the command line |
| `sheet` | episodes as a picture |
"""
