"""`python -m hsnet_trt.serving.triton_local REPOSITORY`: a Triton server without a container."""

import sys

from hsnet_trt.serving.triton_server.local import local_server, main

__all__ = ["local_server", "main"]

if __name__ == "__main__":
    main(sys.argv[1:])
