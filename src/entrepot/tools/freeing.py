"""Deleting files and directories, and counting what the disk really gets back.

What may go is decided before.
"""

from __future__ import annotations

import os
import stat
from contextlib import suppress

from entrepot.fs import disk_of


class Freed:
    """Bytes and files given back, by inode: a file's blocks count when its last link goes."""

    def __init__(self) -> None:
        self.bytes = 0
        self.files = 0

    def unlink(self, path: str) -> None:
        """Remove one file or symbolic link; one that is gone already counts nothing.

        Raises:
            OSError: it could not be removed.
        """
        try:
            info = os.lstat(path)
            os.unlink(path)  # strings are quicker
        except FileNotFoundError:
            return
        self.files += 1
        if info.st_nlink <= 1:
            self.bytes += disk_of(info)

    def rmdir(self, path: str) -> None:
        """Remove an empty directory.

        Raises:
            OSError: it could not be removed.
        """
        info = os.lstat(path)
        os.rmdir(path)
        self.bytes += disk_of(info)

    def tree(self, top: str) -> None:
        """Remove a directory and all in it; a symbolic link is removed, never followed.

        Raises:
            OSError: something could not be removed; the rest may be gone.
        """
        with suppress(
            OSError
        ):  # a package may bring folders that not even their owner may write to
            mode = stat.S_IMODE(os.lstat(top).st_mode)
            if mode & stat.S_IRWXU != stat.S_IRWXU:
                os.chmod(top, mode | stat.S_IRWXU)
        with os.scandir(top) as found:
            inside = [(each.path, each.is_dir(follow_symlinks=False)) for each in found]
        for path, is_folder in inside:
            if is_folder:
                self.tree(path)
            else:
                self.unlink(path)
        with suppress(FileNotFoundError):
            self.rmdir(top)
