"""User quotas of the file system that holds the homes: the kernel keeps each seat within its share of the disk.

A quota by user and not by project, because a seat has a uid of its own, and because the owner of a file may move it
to another project but cannot give it to another user. It belongs to the uid and not to the home, so `wodctl up` sets it
once for all seats, and no service needs the right to (CAP_SYS_ADMIN).

Runs as a program of its own as well, in a container, where the operator is not root:
`quota.py DIRECTORY FIRST-UID SEATS BYTES FILES`. Standard library only. See quotactl_fd(2), since Linux 5.14.
"""

import ctypes
import errno
import os
import struct
import sys
from pathlib import Path

_QUOTACTL_FD = 443
"""Number of the system call, the same on every architecture."""

_SETQUOTA, _GETQUOTA = 0x800008, 0x800007
_USER = 0
_LIMITS = 1 | 4
"""QIF_BLIMITS and QIF_ILIMITS: which fields of the structure are meant."""

_BLOCK = 1024
_DQBLK = struct.Struct("=8QI4x")
"""Hard and soft limit of blocks, bytes in use, the same for inodes, two times of grace, which fields are meant."""


def set_limits(directory: Path, first_uid: int, seats: int, size: int, files: int) -> str | None:
    """Allow each of the uids so many bytes and files (0: any number); why that is not possible here, else None."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        for uid in range(first_uid, first_uid + seats):
            _call(descriptor, _SETQUOTA, uid, _DQBLK.pack(size // _BLOCK, 0, 0, files, 0, 0, 0, 0, _LIMITS))
    except OSError as error:
        return _why(error)
    finally:
        os.close(descriptor)
    return None


def limits(directory: Path, uid: int) -> tuple[int, int]:
    """Bytes and files that the uid may have there, 0 for any number. Raises OSError where there are no quotas."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        found = _DQBLK.unpack(_call(descriptor, _GETQUOTA, uid, bytes(_DQBLK.size)))
        return found[0] * _BLOCK, found[3]
    finally:
        os.close(descriptor)


def _call(descriptor: int, command: int, uid: int, structure: bytes) -> bytes:
    buffer = ctypes.create_string_buffer(structure, _DQBLK.size)
    library = ctypes.CDLL(None, use_errno=True)
    if library.syscall(
        _QUOTACTL_FD, descriptor, ctypes.c_uint(command << 8 | _USER), ctypes.c_int(uid), buffer
    ):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return buffer.raw


def _why(error: OSError) -> str:
    if error.errno == errno.ESRCH:
        return "user quotas are not switched on for its file system"
    if error.errno in (errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTTY):
        return "its file system, or this kernel, has no quotas"
    if error.errno == errno.EPERM:
        return "it takes root to set them"
    return str(error.strerror)


if __name__ == "__main__":
    first, seats, size, files = map(int, sys.argv[2:])
    print(set_limits(Path(sys.argv[1]), first, seats, size, files) or "")
