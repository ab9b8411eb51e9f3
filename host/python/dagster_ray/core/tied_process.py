"""Runs the program of its arguments, and ends it with the process named first.

It is a program of its own, and imports nothing of the package: it stands between a step's worker
and its start.

Only what that process sends, or the system at its death, is passed on. Whoever else ends processes
here tells all of them: Ray each one below a job's entrypoint, a terminal its group. A second signal
would break into the step's cleaning up.
"""

import ctypes
import os
import signal
import subprocess
import sys

_PR_SET_PDEATHSIG = 1
_WATCHED = {signal.SIGTERM, signal.SIGCHLD}


def _end_with_parent() -> None:
    """Has the system send SIGTERM once the thread that started this process has ended.

    It (`man 2 PR_SET_PDEATHSIG`) is sent again for each thread that the child is handed on to, so a
    worker that is killed sends it many times, and the second would break into a step's cleaning
    up. So one process stays between, and passes on one.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _begin() -> None:
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _WATCHED)
    _end_with_parent()


def _told_by(parent: int) -> bool:
    """Waits for the next signal, and tells whether it is for the program, too."""
    if not hasattr(signal, "sigwaitinfo"):  # macOS
        return signal.sigwait(_WATCHED) is signal.SIGTERM
    told = signal.sigwaitinfo(_WATCHED)
    return told.si_signo == signal.SIGTERM and told.si_pid == parent


def main() -> None:
    """Waits for the program, and ends as it did."""
    parent, argv = int(sys.argv[1]), sys.argv[2:]
    signal.pthread_sigmask(signal.SIG_BLOCK, _WATCHED)
    _end_with_parent()
    if os.getppid() != parent:
        sys.exit("the worker that started this step has ended")
    # The signals are blocked and this process has one thread, so nothing happens between.
    program = subprocess.Popen(argv, preexec_fn=_begin)
    told = False
    while (code := program.poll()) is None:
        if _told_by(parent) and not told:
            told = True
            program.send_signal(signal.SIGTERM)
    if code < 0:
        # What waits for this process shall see how the program ended.
        if -code != signal.SIGKILL:
            signal.signal(-code, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {-code})
        os.kill(os.getpid(), -code)
    sys.exit(code)


if __name__ == "__main__":
    main()
