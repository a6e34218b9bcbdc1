"""Checkpoints as differences. Runs in a worker process only: nothing else of the agent imports it."""
