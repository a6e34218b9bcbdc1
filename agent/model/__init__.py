"""Frozen values of the agent."""
