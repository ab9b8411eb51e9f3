"""Starts Ray, runs the job `primes` on it, and prints which Ray job executed which step.

    cargo xtask demo        or, in the virtual environment: python examples/demo/run.py

With `--isolation task`, it runs the job a second time with steps that are Ray tasks, and compares
the times. Exits with 0 only if each run succeeded, Ray lists its worker and its steps as it should,
and Ray stops when Dagster has stopped.
"""

import argparse
import os
import secrets
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

import dagster as dg
from account import account_of, end_of_worker, show_table
from rich.console import Console
from services import ServerFailed, Webserver, free_port, ray_answers, webserver
from watch import History, follow

HERE = Path(__file__).resolve().parent
# The jobs in definitions.py, by the isolation of their steps.
JOBS = {"job": "primes", "task": "primes_as_tasks"}
RAY_STOP_SECONDS = 20


def main() -> int:
    """Runs the demo and returns its exit code."""
    arguments = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    arguments.add_argument(
        "--keep", action="store_true", help="keep Dagster's folder with the run and the logs"
    )
    arguments.add_argument(
        "--isolation",
        choices=JOBS,
        default="job",
        help="`task`: run the job again with steps that are Ray tasks, and compare the times",
    )
    parsed = arguments.parse_args()
    keep = parsed.keep
    isolations = ["job"] if parsed.isolation == "job" else list(JOBS)
    # SIGTERM ends the demo like Ctrl-C: with all clean-up below.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    console = Console(highlight=False, soft_wrap=not sys.stdout.isatty())
    home = Path(tempfile.mkdtemp(prefix="dagster-ray-demo-"))
    try:
        return demonstrate(console, home, isolations)
    except KeyboardInterrupt:
        console.print("\n[yellow]interrupted[/]; Dagster is stopped, and Ray stops in a moment")
        return 130
    except ServerFailed as failure:
        console.print(f"\n[red]failed[/]: {failure}")
        return 1
    finally:
        if keep:
            console.print(f"Dagster's folder: {home}")
        else:
            shutil.rmtree(home, ignore_errors=True)


def demonstrate(console: Console, home: Path, isolations: list[str]) -> int:
    """Starts Dagster and Ray, runs the jobs, checks the results, and stops both."""
    began = time.monotonic()
    ray_port = free_port()
    settings = (HERE / "dagster.yaml").read_text()
    # The account lists the jobs after the run.
    options = f"{{dashboard_port: {ray_port}, idle_seconds: 0, delete_ended_jobs: false}}"
    settings = settings.replace("backend: local", f"backend: local\n    backend_config: {options}")
    (home / "dagster.yaml").write_text(settings)
    os.environ["DAGSTER_HOME"] = str(home)
    # As `activate` does: Ray starts a run worker as `dagster`.
    os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    for name in ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS"):
        # They take precedence over every configured address, and the demo uses its own Ray.
        os.environ.pop(name, None)
    # Ray requires a token where the user's settings enable it. The demo's Ray has its own token.
    token = home / "ray-token"
    token.write_text(secrets.token_hex(16))
    os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token)}

    problems: list[str] = []
    seconds: dict[str, float] = {}
    with webserver(HERE / "definitions.py", home, console) as server:
        ray = f"http://127.0.0.1:{ray_port}"
        for isolation in isolations:
            history, found = run_job(console, server, ray, isolation)
            seconds[isolation] = history.seconds
            problems += found
        with console.status("stopping Dagster and Ray"):
            server.stop()
            # Ray stops by itself, because nothing uses it.
            deadline = time.monotonic() + RAY_STOP_SECONDS
            while ray_answers(ray_port) and time.monotonic() < deadline:
                time.sleep(0.2)
        if ray_answers(ray_port):
            problems.append(f"Ray is still running on port {ray_port}")

    if problems:
        for problem in problems:
            console.print(f"[red]failed[/]: {problem}")
        return 1
    if "task" in seconds:
        console.print(
            "\nFrom the start to the end of the run: "
            f"{seconds['job']:.1f} s with steps as Ray jobs, "
            f"[bold]{seconds['task']:.1f} s[/] with steps as Ray tasks."
        )
    console.print(
        f"\n[green]The run and its steps ran as Ray jobs.[/] "
        f"Dagster and Ray are stopped. Total time: {time.monotonic() - began:.0f} s."
    )
    console.print(look_further())
    return 0


def run_job(
    console: Console, server: Webserver, ray: str, isolation: str
) -> tuple[History, list[str]]:
    """Runs a job, prints its steps and Ray's jobs, and returns what differs from the expected."""
    name = JOBS[isolation]
    starts = ": this starts Ray on this machine" if isolation == "job" else ""
    console.print(f"launching the job [bold]{name}[/]{starts}")
    with console.status("the run is being launched"):
        run_id = server.launch(name)
    with dg.DagsterInstance.get() as instance:
        history = follow(instance, run_id, console, lambda: end_of_worker(ray, run_id))
    account = account_of(ray, run_id, as_tasks=isolation == "task")
    show_table(console, history, account)
    return history, account.problems(history)


def look_further() -> str:
    """Returns the commands that start the same job in Dagster's web UI."""
    activate = Path(sys.executable).with_name("activate")
    return f"""
To run the same job in Dagster's web UI (stop with Ctrl-C):

  source {relative(activate)}
  export DAGSTER_HOME=$(mktemp -d); cp {relative(HERE / "dagster.yaml")} $DAGSTER_HOME
  dagster dev -f {relative(HERE / "definitions.py")}

The job is in {relative(HERE / "definitions.py")}, Dagster's configuration in \
{relative(HERE / "dagster.yaml")}."""


def relative(path: Path) -> str:
    """Returns the path relative to the working directory."""
    return os.path.relpath(path)


if __name__ == "__main__":
    sys.exit(main())
