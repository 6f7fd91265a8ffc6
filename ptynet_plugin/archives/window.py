"""A part of an open file as a file of its own, so that a member of an archive is sought in without unpacking it."""

from __future__ import annotations

import io
import os
from typing import TYPE_CHECKING, BinaryIO, cast

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

__all__ = ["Window"]


class Window(io.RawIOBase):
    """Bytes [start, start + size) of a file; reads by position, so that many windows share one open file."""

    def __init__(self, file: BinaryIO, start: int, size: int) -> None:
        super().__init__()
        self._descriptor = file.fileno()
        self._start, self._size, self._place = start, size, 0

    def readable(self) -> bool:
        """Say yes."""
        return True

    def seekable(self) -> bool:
        """Say yes."""
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move; never before the window's start."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._place, os.SEEK_END: self._size}[whence]
        if base + offset < 0:
            raise ValueError(f"position {base + offset} is before the start")
        self._place = base + offset
        return self._place

    def tell(self) -> int:
        """Give the position."""
        return self._place

    def readinto(self, buffer: WriteableBuffer) -> int:
        """Fill `buffer` as far as the window reaches."""
        view = memoryview(buffer).cast("B")
        wanted = max(0, min(len(view), self._size - self._place))
        block = os.pread(self._descriptor, wanted, self._start + self._place)
        view[: len(block)] = block
        self._place += len(block)
        return len(block)

    def buffered(self) -> BinaryIO:
        """Give the same as an ordinary buffered stream."""
        return cast(BinaryIO, io.BufferedReader(self, buffer_size=1 << 16))
