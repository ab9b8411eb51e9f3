"""Becomes the program of its arguments, once its life is tied to that of the process named first.

It is a program of its own, and imports nothing of the package: it stands between a step's worker
and its start.
"""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def main() -> None:
    """Execs the rest of the arguments."""
    parent, *argv = sys.argv[1:]
    if sys.platform == "linux":
        # A worker that is killed cannot stop its steps, and what resumes the run knows nothing of
        # them. The wish outlives the exec.
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != int(parent):
            sys.exit("the worker that started this step has ended")
    os.execvp(argv[0], argv)


if __name__ == "__main__":
    main()
