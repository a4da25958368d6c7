"""An address whose packets are swallowed: it stands for IPv6 behind a broken router, which test machines may lack."""

import contextlib
import socket
from collections.abc import Iterator


@contextlib.contextmanager
def black_hole(address: str = "127.0.0.2") -> Iterator[tuple[str, int]]:
    """Give host and port of a listener whose queue is full, so that it answers no SYN."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket(socket.AF_INET))
        listener.bind((address, 0))
        listener.listen(0)
        where: tuple[str, int] = listener.getsockname()
        for _ in range(4):
            filler = stack.enter_context(socket.socket(socket.AF_INET))
            filler.setblocking(False)
            filler.connect_ex(where)
        yield where
