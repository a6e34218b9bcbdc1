"""The loops of the coordinator: read, decide in core, act."""
