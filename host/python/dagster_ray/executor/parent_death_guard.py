"""Parent-death guard: runs a program, and terminates it when the parent process dies.

Arguments: the parent's process id, then the program with its arguments. The script imports nothing
of the package, to start quickly.

It forwards SIGTERM only from the parent, or from the kernel at the parent's death, and only once.
Other senders signal the program as well: Ray signals all processes below a job's entrypoint, a
terminal its process group. A second signal would interrupt the step's cleanup.
"""

import ctypes
import os
import signal
import subprocess
import sys

_PR_SET_PDEATHSIG = 1
_WATCHED = {signal.SIGTERM, signal.SIGCHLD}


def _end_with_parent() -> None:
    """Makes the kernel send SIGTERM when the thread that started this process ends.

    The signal (`man 2 PR_SET_PDEATHSIG`) is sent again for each thread that the child is reparented
    to, so a worker that is killed causes many signals, and the second would interrupt a step's
    cleanup. This process receives all of them and forwards one.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _begin() -> None:
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _WATCHED)
    _end_with_parent()


def _wait_for_signal(parent: int) -> bool:
    """Waits for the next signal, and returns whether to forward it to the program."""
    if not hasattr(signal, "sigwaitinfo"):  # macOS
        return signal.sigwait(_WATCHED) is signal.SIGTERM
    received = signal.sigwaitinfo(_WATCHED)
    return received.si_signo == signal.SIGTERM and received.si_pid == parent


def main() -> None:
    """Runs the program, and exits with its exit code or signal."""
    parent, argv = int(sys.argv[1]), sys.argv[2:]
    signal.pthread_sigmask(signal.SIG_BLOCK, _WATCHED)
    _end_with_parent()
    if os.getppid() != parent:
        sys.exit("the run worker that started this step has ended")
    # `preexec_fn` is safe: the signals are blocked, and this process has one thread.
    program = subprocess.Popen(argv, preexec_fn=_begin)
    forwarded = False
    while (code := program.poll()) is None:
        if _wait_for_signal(parent) and not forwarded:
            forwarded = True
            program.send_signal(signal.SIGTERM)
    if code < 0:
        # End by the same signal, so that the parent sees how the program ended.
        if -code != signal.SIGKILL:
            signal.signal(-code, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {-code})
        os.kill(os.getpid(), -code)
    sys.exit(code)


if __name__ == "__main__":
    main()
