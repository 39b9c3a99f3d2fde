"""A camera on the network: `python rtsp_server.py PORT` serves rtsp://127.0.0.1:PORT/camera.

A ball that moves, 30 frames a second of 320 x 240, as MJPEG; asks for a name and password. Prints a
line when it listens.
"""

from __future__ import annotations

import sys

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtspServer  # noqa: E402

NAME, PASSWORD = "viewer", "a-secret"


def main(port: str) -> None:
    Gst.init(None)
    server = GstRtspServer.RTSPServer()
    server.set_address("127.0.0.1")
    server.set_service(port)
    token = GstRtspServer.RTSPToken()
    token.set_string("media.factory.role", NAME)
    auth = GstRtspServer.RTSPAuth()
    auth.add_basic(GstRtspServer.RTSPAuth.make_basic(NAME, PASSWORD), token)
    server.set_auth(auth)
    factory = GstRtspServer.RTSPMediaFactory()
    factory.set_launch(
        "( videotestsrc is-live=true pattern=ball ! video/x-raw,format=I420,width=320,height=240,"
        "framerate=30/1 ! jpegenc ! rtpjpegpay name=pay0 )"
    )
    allowed = Gst.Structure.new_from_string(
        f"{NAME}, media.factory.access=(boolean)true, media.factory.construct=(boolean)true"
    )
    permissions = GstRtspServer.RTSPPermissions()
    permissions.add_role_from_structure(allowed)
    factory.set_permissions(permissions)
    factory.set_shared(True)
    server.get_mount_points().add_factory("/camera", factory)
    assert server.attach(None), f"port {port} is taken"
    print("listening", flush=True)
    GLib.MainLoop().run()


if __name__ == "__main__":
    main(sys.argv[1])
