"""What docs/dagster-plus.md says of runs that a hybrid agent has launched, as far as it needs none.

The instance is like the agent's: it has a name, and launchers that a run must not start.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster._core.definitions.reconstruct import ReconstructableJob
from dagster_ray.deployment import deployment_id, deployment_name, is_agent
from dagster_ray.testing import SimulatedRay
from document_blocks import blocks, whole_page

PAGE = whole_page("docs/dagster-plus.md")
CODE = Path(__file__).parent / "code"
Home = Callable[[dict[str, Any]], dg.DagsterInstance]


@pytest.fixture
def instance(home: Home, monkeypatch: pytest.MonkeyPatch) -> dg.DagsterInstance:
    monkeypatch.syspath_prepend(str(CODE))
    # Step workers load the instance too.
    path = f"{CODE}{os.pathsep}{os.environ.get('PYTHONPATH', '')}".rstrip(os.pathsep)
    monkeypatch.setenv("PYTHONPATH", path)
    monkeypatch.setenv("DAGSTER_CLOUD_AGENT_TOKEN", "token")
    made = home({"instance_class": {"module": "agent_instance", "class": "AgentInstance"}})
    assert is_agent(made)
    return made


def test_steps_run_on_ray_and_belong_to_the_deployment(
    instance: dg.DagsterInstance, simulated_ray: SimulatedRay, tmp_path: Path
) -> None:
    [text] = [block.text for block in blocks(PAGE) if block.language == "python"]
    file = tmp_path / "page.py"
    file.write_text(text)
    job = ReconstructableJob.for_file(str(file), "training")
    with dg.execute_job(job, instance=instance, raise_on_error=False) as result:
        assert result.success, [event.message for event in result.all_events]
        assert result.output_for_node("train") == 42
    [step] = simulated_ray.jobs
    assert step.metadata["dagster-ray/deployment"] == "prod"


def test_a_deployment_is_its_name(
    instance: dg.DagsterInstance, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert deployment_id(instance) == "prod"
    # Outside the agent, the instance of a branch deployment may have no name.
    plain = home({})
    own = deployment_id(plain)
    assert own and not is_agent(plain)
    monkeypatch.setenv("DAGSTER_CLOUD_DEPLOYMENT_NAME", "a1b2c3")
    assert deployment_id(plain) == "a1b2c3"
    monkeypatch.setenv("DAGSTER_CLOUD_IS_BRANCH_DEPLOYMENT", "1")
    monkeypatch.setenv("DAGSTER_CLOUD_GIT_BRANCH", "new-model")
    assert deployment_name() == "new-model"


def test_a_run_storage_without_an_id_is_no_error() -> None:
    class Storage:
        """As the storage of Dagster+, which has no `get_run_storage_id`."""

    class Instance:
        run_storage = Storage()

    instance: Any = Instance()
    assert deployment_id(instance) == ""
