"""INT8: activation ranges from episodes, where Q/DQ pairs go, and what each layer's costs."""
