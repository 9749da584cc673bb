"""How every file is written: whoever reads the name, whenever, finds the new content whole or what was there before.

What stays so after a power cut, and what is not promised (hard links, owners, access lists), is in docs/files.md.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import stat
from pathlib import Path


def write_durably(path: str | Path, content: bytes | str) -> None:
    """Write `content` to `path`; on failure nothing is left behind and what was there stays.

    A regular file is replaced in one step: the content goes to a name of its own in the same folder, to the disk, and
    then takes the name. A file that is replaced keeps its permissions. Symbolic links are followed, and stay. A device,
    a FIFO or an open file such as ``/dev/stdout`` cannot be replaced: there the content is written as it is.

    Parameters
    ----------
    path
        Where to; its folder must exist.
    content
        Text is written as UTF-8.

    Raises
    ------
    OSError
        It cannot be written. The error names `path`, never the temporary name.
    """
    data = content.encode() if isinstance(content, str) else content
    try:
        target, mode = _target(Path(path))
        if target is None:
            _append(Path(path), data)
        else:
            _replace(target, data, mode)
    except OSError as error:
        raise OSError(error.errno, error.strerror or str(error), str(path)) from None


def _target(path: Path) -> tuple[Path | None, int | None]:
    """The regular file to replace and its permissions, None if it is new; no file where it cannot be replaced."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return path.resolve(), None  # new, or at the end of links that lead nowhere yet
    if stat.S_ISDIR(found.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    if not stat.S_ISREG(found.st_mode) or _is_open_file(path):
        return None, None
    target = path.resolve()
    if not os.access(target, os.W_OK):
        raise PermissionError(
            errno.EACCES, os.strerror(errno.EACCES)
        )  # a rename would replace even what is write-protected
    return target, stat.S_IMODE(found.st_mode)


def _is_open_file(path: Path) -> bool:
    """Whether the links of `path` end at a file descriptor, as those of /dev/stdout do."""
    while path.is_symlink():
        folder = path.parent.resolve()
        if folder.parts[:2] == ("/", "proc"):
            return True
        path = folder / path.readlink()
    return False


def _replace(target: Path, data: bytes, mode: int | None) -> None:
    temporary = target.parent / f".{target.name[:40]}.{secrets.token_hex(8)}.tmp"
    try:
        with temporary.open("xb") as stream:  # with the permissions that any new file would get
            stream.write(data)
            stream.flush()
            if mode is not None:
                temporary.chmod(mode)
            os.fsync(stream.fileno())  # the name must not reach the disk before the content
        temporary.replace(target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _sync_folder(target.parent)


def _sync_folder(folder: Path) -> None:
    """Make the new name last through a power cut, where the file system lets a folder be synchronised."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _append(path: Path, data: bytes) -> None:
    """Write to what is there, behind what it holds: an open file may be somebody's log."""
    rest = memoryview(data)
    # Unbuffered: a buffer would be flushed once more after a failure.
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_APPEND), "wb", buffering=0) as stream:
        while rest:
            rest = rest[stream.write(rest) :]  # a FIFO takes only what fits into it
