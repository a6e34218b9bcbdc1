"""Register tables of meters that do not speak SunSpec, with a pure decode."""

from agent.model.registers.codec import decode, encode_value, value_of
from agent.model.registers.figures import FIGURES
from agent.model.registers.points import Kind, Register, Space, Table, WordOrder

__all__ = [
    "FIGURES",
    "Kind",
    "Register",
    "Space",
    "Table",
    "WordOrder",
    "decode",
    "encode_value",
    "value_of",
]
