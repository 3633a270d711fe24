"""Reading a message of Protocol Buffers field by field, without its schema. (Protocol Buffers, Encoding.)"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Union

Field = Union[int, memoryview]
_VARINT, _FIXED64, BYTES, _FIXED32 = 0, 1, 2, 5


def fields(data: memoryview) -> Iterator[tuple[int, Field]]:
    """Field numbers and values of one message: ints for varints, views for everything else.

    Raises ValueError or IndexError for what is none.
    """
    at, end = 0, len(data)
    while at < end:
        key, at = varint(data, at)
        kind = key & 7
        if kind == _VARINT:
            number, at = varint(data, at)
            yield key >> 3, number
            continue
        if kind == BYTES:
            size, at = varint(data, at)
        elif kind in (_FIXED64, _FIXED32):
            size = 8 if kind == _FIXED64 else 4
        else:
            raise ValueError(f"wire type {kind} is none of Protocol Buffers that ONNX uses")
        if at + size > end:
            raise ValueError("a field runs past the end of its message")
        yield key >> 3, data[at : at + size]
        at += size


def varint(data: memoryview, at: int) -> tuple[int, int]:
    """A base-128 number and the place behind it. Raises IndexError past the end."""
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return value, at
        if shift > 63:
            raise ValueError("a number of more than 64 bits")


def messages(data: memoryview, *numbers: int) -> Iterator[memoryview]:
    """The messages (or texts) in fields of these numbers."""
    return (view(value) for number, value in fields(data) if number in numbers)


def view(value: Field) -> memoryview:
    """A field that holds a message. Raises ValueError for a number."""
    if isinstance(value, int):
        raise ValueError("a number where a message was expected")
    return value


def text(value: Field) -> str:
    """A field that holds a text."""
    return bytes(view(value)).decode("utf-8", "replace")


def part(number: int, *inner: bytes | str) -> bytes:
    """One length-delimited field of a message, to write."""
    body = b"".join(piece.encode() if isinstance(piece, str) else piece for piece in inner)
    size, head = len(body), bytearray([number << 3 | BYTES])
    while size > 127:
        head.append(size & 127 | 128)
        size >>= 7
    return bytes(head) + bytes([size]) + body
