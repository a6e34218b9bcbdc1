"""The folder that goes on PYTHONPATH; Python looks here for `sitecustomize` alone."""
