"""The files of deploy/, as far as they can be checked without a cluster and a container runtime.

test_kuberay_role.py applies the manifests to a real control plane.
"""

import json
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml
from dagster_ray import RayRunLauncher
from dagster_ray.contract import LauncherClient, RunSpec
from document_blocks import blocks, whole_page
from kube_objects import DEPLOY, role_rules
from run_spec import RUN

ROOT = Path(__file__).parents[2]
VALUES = ROOT / "deploy/helm/values.yaml"
DOCKERFILE = ROOT / "deploy/image/Dockerfile"
PAGE = whole_page("docs/kubernetes.md")


def test_the_role_has_the_grants_of_the_components_manifest() -> None:
    tomllib = pytest.importorskip("tomllib", reason="Python 3.11 reads TOML")
    manifest = tomllib.loads((ROOT / "components/kuberay/kuberay.toml").read_text())
    granted = [
        {"apiGroups": [rule["group"]], "resources": rule["resources"], "verbs": rule["verbs"]}
        for rule in manifest["grants"]["kubernetes"]
    ]
    assert role_rules(outside=False) == granted, "edit deploy/kubernetes/role.yaml"


def _custom_launcher() -> dict[str, Any]:
    values = yaml.safe_load(VALUES.read_text())
    launcher = values["runLauncher"]
    assert launcher["type"] == "CustomRunLauncher"
    return launcher["config"]["customRunLauncher"]


def test_the_component_accepts_the_launcher_of_the_helm_values(
    home: Callable[[dict], dg.DagsterInstance],
) -> None:
    # The chart writes these values into dagster.yaml as they are.
    instance = home({"run_launcher": _custom_launcher()})
    launcher = instance.run_launcher
    assert isinstance(launcher, RayRunLauncher)
    # The chart names the image of the code location, which becomes a tag of the run.
    spec: RunSpec = {
        **RUN,
        "tags": [["dagster/image", "ghcr.io/we/pipelines:42"]],
        "options": json.dumps(launcher.run_options),
    }
    placement = LauncherClient(launcher.backend).plan(spec)
    assert placement != "local"
    assert json.loads(placement["job"]["job"]["details"] or "{}")["namespace"] == "dagster"


def test_the_helm_values_use_the_account_of_the_manifests_in_their_namespace() -> None:
    config = _custom_launcher()["config"]["backend_config"]
    pod = config["ray_job"]["spec"]["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]
    account = yaml.safe_load((DEPLOY / "service-account.yaml").read_text())
    assert pod["serviceAccountName"] == account["metadata"]["name"]
    kustomization = yaml.safe_load((DEPLOY / "kustomization.yaml").read_text())
    assert config["namespace"] == kustomization["namespace"]


def test_one_image_is_used_everywhere() -> None:
    values = yaml.safe_load(VALUES.read_text())
    [code] = values["dagster-user-deployments"]["deployments"]
    images = [values["dagsterDaemon"]["image"], values["dagsterWebserver"]["image"], code["image"]]
    assert images[0] == images[1] == images[2]
    name = f"{images[0]['repository']}:{images[0]['tag']}"
    assert f"--tag {name} " in DOCKERFILE.read_text()
    assert name in PAGE


def _instructions() -> list[tuple[str, str]]:
    text = re.sub(r"^#.*\n", "", DOCKERFILE.read_text(), flags=re.MULTILINE)
    lines = text.replace("\\\n", " ").splitlines()
    return [(line.split()[0], line.split(maxsplit=1)[1]) for line in lines if line.strip()]


def test_the_dockerfile_installs_tested_versions_with_known_extras() -> None:
    tomllib = pytest.importorskip("tomllib", reason="Python 3.11 reads TOML")
    project = tomllib.loads((ROOT / "host/python/pyproject.toml").read_text())["project"]
    arguments = dict(
        value.split("=") for name, value in _instructions() if name == "ARG" and "=" in value
    )
    assert arguments["DAGSTER_RAY"] == project["name"]
    supported = (ROOT / "docs/supported.md").read_text()
    for version in ("DAGSTER_VERSION", "RAY_VERSION"):
        assert f"| {arguments[version]} |" in supported, version
    [install] = [value for name, value in _instructions() if name == "RUN" and "pip" in value]
    words = shlex.split(install)
    assert words[:2] == ["pip", "install"]
    [extras] = [re.findall(r"\[(.*)\]", word)[0] for word in words if "DAGSTER_RAY}" in word]
    assert set(extras.split(",")) <= project["optional-dependencies"].keys()


def test_every_command_of_the_page_names_files_that_exist() -> None:
    found = list(blocks(PAGE))
    commands = [block for block in found if block.language == "shell"]
    assert commands
    for block in commands:
        for word in shlex.split(block.text, comments=True):
            if word.startswith("deploy/"):
                assert (ROOT / word).exists(), word
    for block in found:
        if block.language == "yaml":
            assert block.text in VALUES.read_text(), "the block is not a part of values.yaml"
        else:
            assert block.language == "shell", block.key
