"""The site daemon: sense, obey the grid, run jobs, move checkpoints."""
