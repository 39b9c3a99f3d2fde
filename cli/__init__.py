"""The `hsnet-trt` command: one thin file per verb."""
