"""An exclusive lock on an open file, held by one process at a time and let go when that process ends."""

from __future__ import annotations

import sys
from typing import IO

__all__ = ["try_lock"]

if sys.platform == "win32":
    import msvcrt

    def try_lock(file: IO[bytes]) -> bool:
        """Take the lock, or tell that another process has it; closing the file lets it go."""
        file.seek(0x7FFFFFFF)  # a byte far behind the content: locked ranges cannot be read by others there
        try:
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True
else:
    import fcntl

    def try_lock(file: IO[bytes]) -> bool:
        """Take the lock, or tell that another process has it; closing the file lets it go."""
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True
