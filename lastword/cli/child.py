"""`python -m lastword.cli.child MODULE`: runs one program of the product as a child of the supervisor.

The supervisor holds the other end of the child's standard input. When the supervisor dies, by whatever signal, that pipe closes, and the child ends itself as if by SIGTERM: so a
killed supervisor leaves no process behind, on any system.
"""

from __future__ import annotations

import os
import runpy
import signal
import sys
import threading

GRACE_S = 20.0
"""How long the program may take to end by itself, in seconds."""


def _follow_parent() -> None:
    while os.read(0, 4096):
        pass  # nothing is ever sent: the read returns empty at the end of the pipe
    os.kill(os.getpid(), signal.SIGTERM)
    threading.Event().wait(GRACE_S)
    os._exit(1)


def main() -> None:
    """Runs the module as `python -m` would."""
    module = sys.argv[1]
    threading.Thread(target=_follow_parent, name="follow-parent", daemon=True).start()
    sys.argv = [module, *sys.argv[2:]]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
