"""A call of the driver is whole, or the next ones are refused until a reset."""

import os
import threading
import weakref
from functools import wraps

from emamba.base.errors import DeviceError


class Unchanged(DeviceError):
    """A refusal that leaves the design as it was, so that the next call may go on."""


class Transactions:
    """A class whose methods are transactions: one thread at a time, of the process that made the object. Of several objects on a
    `transport`, the last one made or reset owns it."""

    def __init__(self, transport):
        self.transport = transport
        self._lock, self._process = threading.Lock(), os.getpid()
        self._thread, self._open = None, ""
        """Whose call is under way; what is, or ended in its middle."""

    def _own(self) -> None:
        self.transport.driver = weakref.ref(self)

    def _check_own(self) -> None:
        if self.transport.driver() is not self:
            raise DeviceError("another driver was made on this transport since, and changed the design: use that one, or call "
                              "reset() to have it back")


def transaction(what: str, *, anew: bool = False):
    """A method that uses the transport. After an interrupted one, all are refused but one that begins `anew`."""
    def decorate(function):
        @wraps(function)
        def call(self, *arguments, **options):
            if self._thread == threading.get_ident() and self._lock.locked():  # a signal's handler
                raise DeviceError(f"{what} is asked for in the middle of {self._open}, by the same thread: let that end first")
            with self._lock:
                if self._process != os.getpid():
                    raise DeviceError(f"this driver belongs to process {self._process}: close its transport there and make both "
                                      "anew here")
                if not anew:
                    self._check_own()
                if self._open and not anew:
                    raise DeviceError(f"{self._open} ended in its middle: call reset() first, which leaves no results, and a "
                                      "state of zeros that is not kept")
                self._thread, self._open = threading.get_ident(), what
                try:
                    result = function(self, *arguments, **options)
                except Unchanged:
                    self._open = what if anew else ""
                    raise
                except OSError as error:
                    raise DeviceError(f"{what} broke off, since the transport failed ({error or 'no answer in time'}): call "
                                      "reset()") from error
                finally:
                    self._thread = None
                self._open = ""
                return result
        return call
    return decorate
