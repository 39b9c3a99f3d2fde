"""Where frames come from: cameras, network streams, GStreamer pipelines, video files, folders.

In: what a person calls it. Out: a `FrameSource`; a camera that goes away is opened again.
May import: no other room.
"""
