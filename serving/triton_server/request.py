"""A client's request to the model `hsnet`."""

from __future__ import annotations

from typing import Any

from hsnet_trt.errors import InputError
from hsnet_trt.serving.triton_server.protocol import INPUTS


class Request:
    """A request's inputs, checked."""

    def __init__(self, pb: Any, request: Any) -> None:
        """Read a request of Triton's.

        Raises:
            InputError: an input is not of shape [1,n].
        """
        self._values: dict[str, list[bytes]] = {}
        for name in INPUTS:
            tensor = pb.get_input_tensor_by_name(request, name)
            if tensor is None:
                continue
            array = tensor.as_numpy()
            if array.ndim != 2 or array.shape[0] != 1:
                raise InputError(
                    "one request does one thing", expected="shape [1,n]", found=list(array.shape)
                )
            self._values[name] = [bytes(value) for value in array[0]]

    def contents(self, name: str) -> list[bytes]:
        """The files' contents of an input; empty if it was not sent."""
        return self._values.get(name, [])

    def texts(self, name: str) -> list[str]:
        """The texts of an input. Raises InputError: they are not UTF-8."""
        try:
            return [value.decode() for value in self.contents(name)]
        except UnicodeDecodeError as error:
            raise InputError(f"the input {name!r} is not text", expected="UTF-8") from error

    def one(self, name: str) -> str:
        """The single text of an input. Raises InputError: there is none, or more than one."""
        found = self.texts(name)
        if len(found) != 1:
            raise InputError(f"the request needs one {name!r}", found=f"{len(found)}")
        return found[0]
