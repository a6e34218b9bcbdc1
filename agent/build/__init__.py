"""Makes each part of the agent from its table of the configuration. Decides nothing, runs nothing."""
