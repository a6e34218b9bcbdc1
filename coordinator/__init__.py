"""The fleet daemon."""
