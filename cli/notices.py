"""The notice that kernels are being compiled, which happens once and takes a while."""

import sys
from typing import Any


def announce_compilation() -> None:
    """Say on stderr, once, when numba has to compile a kernel that is not in its cache yet.

    Must be called before the kernels are imported: their compilation is what is listened to.
    """
    from numba.core import event

    class Announcement(event.Listener):
        said = False

        def on_start(self, event: Any) -> None:
            if not self.said:
                print("compiling search kernels (once, some seconds) ...", file=sys.stderr)
            self.said = True

        def on_end(self, event: Any) -> None:
            pass

    event.register("numba:compile", Announcement())  # type: ignore[no-untyped-call]
