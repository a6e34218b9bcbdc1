"""Training processes, checkpoints, transfer."""
