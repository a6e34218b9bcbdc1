"""The loops of the agent: read, decide in core, act."""
