"""Episodes for few-shot segmentation, without torch: datasets, drawn scenes, and their judging.

| module or room | content |
|---|---|
| `episodes` | `Episode`, `Episodes`, their sampling, mIoU and FB-IoU, the measures of videos, trivial answers |
| `sets` | readers of datasets on disk: `pascal`, `coco`, `fss`, `folder` |
| `drawn` | endless episodes: `procedural` (needs OpenCV), `photo_cut` (needs scikit-image, too); `videos` |
| `labels` | masks from COCO's and LabelMe's files, boxes and scribbles |
| `sources` | all sources of episodes by the names of the command line |
| `sheet` | episodes as a picture |
"""
