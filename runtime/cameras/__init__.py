"""Sources of frames: cameras, network streams, GStreamer pipelines, video files, folders.

In: a source's name. Out: a `FrameSource`; a camera that is lost is opened again.
May import: no other room.
"""
