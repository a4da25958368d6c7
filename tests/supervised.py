"""A program under a supervisor: it does what the file `behaviour` in its folder says, and notes what it sees.

serve       answer every connection with the process's id
serve N     the same, as one of N processes
stubborn    the same, and ignore SIGTERM
hang        never get warm
exit N      end with this code
"""

import asyncio
import os
import signal
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import supervisor

if __name__ == "__main__" and supervisor.is_wanted(sys.argv, os.environ):
    sys.exit(supervisor.Supervisor().run())

import socket


async def serve(folder: Path, parent: supervisor.ParentLink, *, stubborn: bool, processes: int) -> None:
    """Answer until told to end."""
    ended = asyncio.Event()

    def end(why: str) -> None:
        note(folder, why)
        ended.set()

    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(str(os.getpid()).encode())
        writer.close()

    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, (lambda: None) if stubborn else (lambda: end("SIGTERM")))
    loop.add_signal_handler(signal.SIGINT, lambda: end("SIGINT"))
    parent.watch(loop, lambda: end("orphaned"))
    kept = parent.descriptors
    listener = socket.socket(fileno=kept[0]) if kept else socket.create_server(("127.0.0.1", 0))
    parent.send("listening", [listener])
    parent.send(f"warm 0.2 {processes}")
    server = await asyncio.start_server(answer, sock=listener)
    parent.send("serving")
    note(folder, f"serving {listener.getsockname()[1]}")
    await ended.wait()
    server.close()


def note(folder: Path, what: str) -> None:
    """Add a line to the file `notes`."""
    with (folder / "notes").open("a") as notes:
        notes.write(f"{os.getpid()} {what}\n")


def main() -> None:
    """Do what the file says."""
    folder = Path(sys.argv[1])
    behaviour = (folder / "behaviour").read_text()
    parent = supervisor.ParentLink(os.environ)
    note(folder, "first" if parent.is_first else "next" if parent.replaces else "again")
    if behaviour.startswith("exit"):
        sys.exit(int(behaviour.split()[1]))
    if behaviour == "hang":
        signal.pause()
    processes = int(behaviour.partition(" ")[2] or 1)
    asyncio.run(serve(folder, parent, stubborn=behaviour == "stubborn", processes=processes))


if __name__ == "__main__":
    main()
