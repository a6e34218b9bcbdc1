"""The grid operator's signals."""
