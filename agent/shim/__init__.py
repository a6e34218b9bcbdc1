"""The small process that owns one job. Standard library only."""
