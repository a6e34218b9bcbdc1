"""For training code: hooks for unmodified scripts, and what makes a checkpoint complete.

Standard library only: it runs inside the trainer's own Python, which has none of our dependencies.
"""
