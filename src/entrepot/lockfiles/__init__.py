"""Digests out of lock files and requirement files: text in, links and pins out. No I/O."""

from entrepot.lockfiles.conda import Locked, read_locked
from entrepot.lockfiles.pins import Allowed, Known, Pins
from entrepot.lockfiles.read import hosts_in_lock, links_from, read_arguments, read_lock

__all__ = [
    "Allowed",
    "Known",
    "Locked",
    "Pins",
    "hosts_in_lock",
    "links_from",
    "read_arguments",
    "read_lock",
    "read_locked",
]
