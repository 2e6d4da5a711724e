"""Digests out of lock files and requirement files: text in, links and pins out. No I/O."""

from entrepot.lockfiles.pins import Allowed, Known, Pins
from entrepot.lockfiles.read import Locked, read_arguments, read_lock, read_locked

__all__ = [
    "Allowed",
    "Known",
    "Locked",
    "Pins",
    "read_arguments",
    "read_lock",
    "read_locked",
]
