"""Surplus forecasts."""
