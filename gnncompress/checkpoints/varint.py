"""Whole numbers of any size in as few bytes as they need: seven bits a byte, the lowest first, LEB128."""

from __future__ import annotations

_BYTES = 10


def write_varint(number: int) -> bytes:
    """Return a number from 0 as bytes."""
    content = bytearray()
    while number >= 0x80:
        content.append(number & 0x7F | 0x80)
        number >>= 7
    content.append(number)
    return bytes(content)


def read_varint(content: bytes, position: int) -> tuple[int, int]:
    """Return the number at ``position`` and where it ends.

    Raises:
        ValueError: if it does not end within ten bytes.
    """
    number = 0
    for place, byte in enumerate(content[position : position + _BYTES]):
        number |= (byte & 0x7F) << 7 * place
        if byte < 0x80:
            return number, position + place + 1
    raise ValueError("a length does not end")
