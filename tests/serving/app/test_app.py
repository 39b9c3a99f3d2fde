"""The address that the page is served at."""

from __future__ import annotations

import socket

import pytest

pytest.importorskip("uvicorn", reason="the extra `app` is not installed")

from hsnet_trt.errors import InputError
from hsnet_trt.serving.app.app import bind, is_loopback, page_address


def test_this_machine_alone_needs_no_token():
    with bind("127.0.0.1", 0) as listening:
        port = listening.getsockname()[1]
        assert is_loopback(listening)
        assert page_address(listening, "127.0.0.1", None) == f"http://127.0.0.1:{port}/"


def test_all_addresses_of_the_machine():
    with bind("0.0.0.0", 0) as listening:
        port = listening.getsockname()[1]
        assert not is_loopback(listening)
        said = page_address(listening, "0.0.0.0", "secret")
        assert said == f"http://{socket.gethostname()}:{port}/?token=secret"


def test_a_port_that_is_taken():
    with bind("127.0.0.1", 0) as listening:
        port = listening.getsockname()[1]
        with pytest.raises(InputError, match=f"cannot be served at 127.0.0.1, port {port}"):
            bind("127.0.0.1", port)


def test_an_address_that_is_not_ours():
    with pytest.raises(InputError, match="another --host"):
        bind("192.0.2.1", 0)  # kept for documentation: nobody has it
