"""`mailroom serve`."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import httpx

ROOT = Path(__file__).parents[2]


def test_serve_executes_server_py(tmp_path: Path) -> None:
    """In the same process, so that signals reach the server."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        with subprocess.Popen(
            [sys.executable, "-m", "mailroom", "--dev", "serve", "--fd", str(listening.fileno())],
            cwd=tmp_path,
            env={"PATH": os.defpath, "PYTHONPATH": str(ROOT)},
            pass_fds=(listening.fileno(),),
            stderr=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        ) as process:
            url = f"http://127.0.0.1:{listening.getsockname()[1]}"
            assert httpx.get(f"{url}/livez", trust_env=False, timeout=60).text == "alive\n"
            process.send_signal(signal.SIGINT)
            assert process.wait(timeout=60) == 0
        assert (tmp_path / "data" / "dev.db").exists()
