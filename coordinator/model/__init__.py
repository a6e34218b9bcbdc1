"""Frozen values of the coordinator."""
