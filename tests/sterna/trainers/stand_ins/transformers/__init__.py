"""A stand-in for the library: its module names, its callbacks and its order of saving, without torch."""
