"""Recorded traces through the production core."""
