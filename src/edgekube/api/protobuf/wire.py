"""The protobuf wire format: varints, tags and lengths (protobuf.dev, "Encoding")."""

from collections.abc import Iterator

from edgekube.api.errors import BadRequest

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5


def varint(data: memoryview, at: int) -> tuple[int, int]:
    """Return an unsigned 64-bit number and where it ends."""
    result = shift = 0
    size = len(data)
    while at < size:
        byte = data[at]
        at += 1
        result |= (byte & 0x7F) << shift
        if byte < 0x80:
            return result & 0xFFFFFFFFFFFFFFFF, at
        shift += 7
        if shift > 63:
            raise BadRequest("proto: integer overflow")
    raise BadRequest("unexpected EOF")


def records(data: memoryview) -> Iterator[tuple[int, int, int | memoryview]]:
    """Return (field number, wire type, value) of each field; a value is a number or the bytes."""
    at, size = 0, len(data)
    while at < size:
        tag, at = varint(data, at)
        number, wire = tag >> 3, tag & 7
        if number == 0:
            raise BadRequest("proto: illegal tag 0")
        if wire == VARINT:
            value, at = varint(data, at)
            yield number, wire, value
            continue
        if wire == BYTES:
            length, at = varint(data, at)
        elif wire in (FIXED64, FIXED32):
            length = 8 if wire == FIXED64 else 4
        else:
            raise BadRequest(f"proto: illegal wireType {wire}")
        if length > size - at:
            raise BadRequest("unexpected EOF")
        yield number, wire, data[at : at + length]
        at += length


def signed(value: int, bits: int) -> int:
    """Return a varint as int32 or int64 (negative ones are sent as 64-bit two's complement)."""
    value &= (1 << bits) - 1
    return value - (1 << bits) if value >> (bits - 1) else value


def write_varint(value: int) -> bytes:
    """Return the bytes of a number; negative ones as 64-bit two's complement."""
    value &= 0xFFFFFFFFFFFFFFFF
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def write_number(number: int, value: int) -> bytes:
    """Return a varint field."""
    return write_varint(number << 3 | VARINT) + write_varint(value)


def write_bytes(number: int, value: bytes) -> bytes:
    """Return a length-delimited field."""
    return write_varint(number << 3 | BYTES) + write_varint(len(value)) + value
