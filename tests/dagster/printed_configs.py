"""Gives printed configurations and examples to the real code that reads them."""

import textwrap
from collections.abc import Callable
from typing import Any

import dagster as dg
import yaml
from dagster_ray import RayRunLauncher
from dagster_ray.specs import worker_spec

Home = Callable[[dict[str, Any]], dg.DagsterInstance]


def launcher_of(home: Home, printed: dict[str, Any]) -> RayRunLauncher:
    """Returns the run launcher of an instance with this dagster.yaml."""
    launcher = home(printed).run_launcher
    assert isinstance(launcher, RayRunLauncher)
    return launcher


def with_lines(home: Home, lines: str) -> RayRunLauncher:
    """Returns a launcher whose configuration has these printed, indented lines."""
    config = {"address": "http://127.0.0.1:9", **yaml.safe_load(textwrap.dedent(lines))}
    launcher = {"module": "dagster_ray", "class": "RayRunLauncher", "config": config}
    return launcher_of(home, {"run_launcher": launcher})


def planned(launcher: RayRunLauncher, export: str = "executor.plan") -> dict[str, Any]:
    """Returns the component's plan for a step. The component validates the configuration."""
    backend = launcher.backend
    options = {**launcher._options, **backend.options}
    spec, _ = worker_spec(
        dg.DagsterRun(job_name="job", run_id="r"),
        deployment="d",
        attempt=0,
        argv=["dagster"],
        payload=None,
        env={},
        tags={},
        override=None,
        options=options,
    )
    [placement] = backend.call(export, {"steps": [{**spec, "step_key": "s"}]})
    if isinstance(placement, Exception):
        raise placement
    return placement["job"]


def executed(text: str, **names: Any) -> dict[str, Any]:
    """Executes a printed example, and returns its names."""
    exec(compile(text, "printed_example.py", "exec"), names)
    return names
