"""Runs the job `primes` on a Ray that is started for it, and shows what happened where.

    cargo xtask demo        or, in the virtual environment: python examples/demo/run.py

Exits with 0 only if the run succeeded, its worker and all of its steps were jobs of this Ray by
Ray's own account, and nothing is left running.
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
from services import ServerFailed, free_port, ray_answers, webserver
from watch import follow

HERE = Path(__file__).resolve().parent
JOB = "primes"


def main() -> int:
    """Runs the demo."""
    arguments = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    arguments.add_argument(
        "--keep", action="store_true", help="keep Dagster's folder with the run and the logs"
    )
    keep = arguments.parse_args().keep
    # A plain `kill` ends the demo like Ctrl-C does: through every clean-up below.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    console = Console(highlight=False, soft_wrap=not sys.stdout.isatty())
    home = Path(tempfile.mkdtemp(prefix="dagster-ray-demo-"))
    try:
        return demonstrate(console, home)
    except KeyboardInterrupt:
        console.print("\n[yellow]interrupted[/]; everything is stopped")
        return 130
    except ServerFailed as failure:
        console.print(f"\n[red]failed[/]: {failure}")
        return 1
    finally:
        if keep:
            console.print(f"Dagster's folder is kept: {home}")
        else:
            shutil.rmtree(home, ignore_errors=True)


def demonstrate(console: Console, home: Path) -> int:
    """Starts, launches, watches, counts up, stops."""
    began = time.monotonic()
    ray_port = free_port()
    settings = (HERE / "dagster.yaml").read_text()
    settings = settings.replace(
        "backend: local", f"backend: local\n    backend_config: {{dashboard_port: {ray_port}}}"
    )
    (home / "dagster.yaml").write_text(settings)
    os.environ["DAGSTER_HOME"] = str(home)
    # As `activate` does it: a run worker is started as `dagster`.
    os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    for name in ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS"):
        # They would win over every address, and this demo is about a Ray of its own.
        os.environ.pop(name, None)
    # Ray asks for a token where it finds one of the user's. This one has a token of its own.
    token = home / "ray-token"
    token.write_text(secrets.token_hex(16))
    os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token)}

    with webserver(HERE / "definitions.py", home, console) as server:
        ray = f"http://127.0.0.1:{ray_port}"
        console.print("launching the job [bold]primes[/]: this starts Ray on this machine")
        with console.status("Ray is starting"):
            run_id = server.launch(JOB)
        with dg.DagsterInstance.get() as instance:
            history = follow(instance, run_id, console, lambda: end_of_worker(ray, run_id))
        account = account_of(ray, run_id)
        show_table(console, history, account)
        problems = account.problems(history)
        with console.status("stopping Dagster and Ray"):
            server.stop()
        if ray_answers(ray_port):
            problems.append(f"Ray still answers at port {ray_port}")

    if problems:
        for problem in problems:
            console.print(f"[red]wrong[/]: {problem}")
        return 1
    console.print(
        f"\n[green]The run and its steps were jobs of this Ray.[/] "
        f"Nothing is left running. {time.monotonic() - began:.0f} s in all."
    )
    console.print(look_further())
    return 0


def look_further() -> str:
    """The commands with which to go on by hand."""
    activate = Path(sys.executable).with_name("activate")
    return f"""
To see the same job in Dagster's pages (stop with Ctrl-C):

  source {relative(activate)}
  export DAGSTER_HOME=$(mktemp -d); cp {relative(HERE / "dagster.yaml")} $DAGSTER_HOME
  dagster dev -f {relative(HERE / "definitions.py")}

The job is in {relative(HERE / "definitions.py")}, Dagster's settings are in \
{relative(HERE / "dagster.yaml")}."""


def relative(path: Path) -> str:
    """The path as one would type it here."""
    return os.path.relpath(path)


if __name__ == "__main__":
    sys.exit(main())
