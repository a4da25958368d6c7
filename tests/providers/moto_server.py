"""moto, AWS's services on loopback, in a process of its own: prints its address, serves until its input ends.

The first so many actions are not authenticated (`INITIAL_NO_AUTH_ACTION_COUNT`), all after them are, as AWS does it.
"""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def moto_server(unauthenticated: int) -> Iterator[str]:
    """Run it; gives its URL."""
    with subprocess.Popen(
        [sys.executable, "-m", __name__],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={"INITIAL_NO_AUTH_ACTION_COUNT": str(unauthenticated), "PYTHONWARNINGS": "ignore"},
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        yield process.stdout.readline().strip()
        process.stdin.close()
        process.wait(timeout=10)


def _serve() -> None:
    from moto.server import ThreadedMotoServer  # noqa: PLC0415  # only that process wants it

    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    print(f"http://{host}:{port}", flush=True)  # noqa: T201  # whoever started it reads it
    sys.stdin.read()
    server.stop()


if __name__ == "__main__":
    _serve()
