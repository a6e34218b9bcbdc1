"""Hostile input by the million: generators, a barrage that counts, and one target per kind of input."""
