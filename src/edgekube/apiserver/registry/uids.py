"""UIDs of new objects: random UUIDs (RFC 9562, version 4)."""

import os

BLOCK = 4096
"""Bytes asked of the kernel at once: each call lets go of the interpreter, and costs more than the UUID itself."""
SIZE = 16


class Uids:
    """Draws UIDs from blocks of the kernel's random bytes."""

    def __init__(self) -> None:
        self._block = b""
        self._used = 0

    def draw(self) -> str:
        """Return a new one, as 36 characters."""
        start, self._used = self._used, self._used + SIZE
        if self._used > len(self._block):
            self._block, start, self._used = os.urandom(BLOCK), 0, SIZE
        number = bytearray(self._block[start : self._used])
        number[6] = number[6] & 0x0F | 0x40
        number[8] = number[8] & 0x3F | 0x80
        text = number.hex()
        return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
