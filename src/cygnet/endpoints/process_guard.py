"""Runs a server that ends with its parent, whatever ends that: `python -m cygnet.endpoints.process_guard COMMAND...`.

The parent holds the other end of this program's standard input. When the parent ends, even by SIGKILL, the system
closes that end. The read below then returns, and the whole process group of the command is killed.
"""

import os
import signal
import subprocess
import sys
import threading


def main() -> None:
    """Run the command in a process group of its own until it ends or standard input closes."""
    server = subprocess.Popen(sys.argv[1:], stdin=subprocess.DEVNULL, start_new_session=True)  # noqa: S603

    def kill_without_parent() -> None:
        while os.read(sys.stdin.fileno(), 4096):  # sys.stdin.read would hold a lock that exiting waits for
            pass
        os.killpg(server.pid, signal.SIGKILL)

    threading.Thread(target=kill_without_parent, daemon=True).start()
    sys.exit(server.wait())


if __name__ == "__main__":
    main()
