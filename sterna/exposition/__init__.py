"""Figures for Prometheus: families, their text, and the port where they are read."""
