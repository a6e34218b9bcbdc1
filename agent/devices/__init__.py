"""Power meters and GPUs, one shell per kind of hardware."""
