"""How much of a node a GPU's power figure covers."""

from enum import Enum


class Scope(Enum):
    """What is measured where a provider states watts, from the most of the node to nothing of it."""

    INPUT = "input of the carrier board"
    MODULE = "input of the module"
    PARTS = "parts of the module"
    DEVICE = "the GPU alone"
    MODEL = "a model, nothing is measured"
