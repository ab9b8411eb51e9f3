"""The printed configurations, policies, manifests and projects are accepted by what reads them."""

import hashlib
import json
import logging
import re
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml
from component_files import BUILT_IN, FIXTURES, built_in, put
from dagster_ray.backend import Backend
from dagster_ray.configs import BackendConfig
from dagster_ray.contract import JobRef
from dagster_ray.dashboard import dashboard_link
from dagster_ray.errors import ComponentLoadError, InvalidConfigError, PermissionDeniedError
from dagster_ray.instance_policy import check_run_tag
from dagster_ray.kuberay import KubeRayCluster
from document_blocks import ROOT, blocks, page, page_block
from example_commands import EXAMPLES, run_shell
from printed_configs import Home, executed, launcher_of, planned, with_lines

HOW_TO = "docs/how-to"
GALLERY = "docs/backends.md"
SECURITY = "docs/security.md"
PASSWORD = {"DAGSTER_RAY_KEY_PASSWORD": "secret"}


@page(f"{HOW_TO}/existing-cluster.md", "Runs as Ray jobs", "yaml")
def test_the_launcher_accepts_the_printed_configuration(
    printed: str, home: Home, monkeypatch: Any
) -> None:
    monkeypatch.setenv("AWS_REGION", "eu-central-1")
    launcher = launcher_of(home, yaml.safe_load(printed))
    assert launcher.backend.url == "http://ray-head:8265"
    assert launcher._options == {
        "num_cpus": 1,
        "env_vars": ["AWS_REGION", "STAGE=prod"],
        "runtime_env": {"pip": ["polars"]},
    }
    assert planned(launcher)["job"]["submission_id"].startswith("dagster-step-r")


@page(f"{HOW_TO}/existing-cluster.md", "Steps as Ray jobs", "yaml")
def test_the_printed_template_links_to_jobs(printed: str) -> None:
    config = BackendConfig.validated(**yaml.safe_load(printed))
    details = json.dumps({"kind": "RayCluster", "namespace": "ray", "name": "shared"})
    job: JobRef = {"submission_id": "j", "dashboard_url": None, "details": details}
    [link] = dashboard_link(job, config.dashboard_link).values()
    assert link.url == "https://ray.example.org/ray/shared/#/jobs/j"


@page(f"{HOW_TO}/this-machine.md", "How long Ray runs", "yaml")
def test_the_local_backend_reads_its_port_and_idle_time(printed: str, home: Home) -> None:
    launcher = launcher_of(home, yaml.safe_load(printed))
    assert planned(launcher)["job"]["submission_id"].startswith("dagster-step-r")
    # A launch reads the settings, and reports a mistake before it looks for a Ray.
    for wrong, problem in (
        (("idle_seconds: 600", "idle_seconds: 3601"), "3601 is more than 3600"),
        (("dashboard_port: 8300", "dashboard_port: 0"), "must not be 0"),
    ):
        launcher = launcher_of(home, yaml.safe_load(printed.replace(*wrong)))
        with pytest.raises(InvalidConfigError, match=problem):
            planned(launcher, "executor.launch")


@page(f"{HOW_TO}/kuberay.md", "Configure the launcher", "yaml")
def test_kuberay_accepts_the_launchers_configuration(printed: str, home: Home) -> None:
    launcher = launcher_of(home, yaml.safe_load(printed))
    options = launcher.backend.options
    assert options["image"] == "ghcr.io/we/pipelines:42"
    assert options["ray_job"]["spec"]["rayClusterSpec"]["workerGroupSpecs"]
    assert "ray" in str(planned(launcher)["job"])


def test_the_examples_stage_of_production_uses_kuberay(home: Home, monkeypatch: Any) -> None:
    settings = yaml.safe_load((EXAMPLES / "kuberay/production/dagster.yaml").read_text())
    assert settings.pop("storage")
    assert planned(launcher_of(home, settings))["job"]["details"] is not None
    monkeypatch.setenv("STAGE", "production")
    defs = executed((EXAMPLES / "kuberay/definitions.py").read_text())["defs"]
    assert isinstance(defs.resources["ray_cluster"], KubeRayCluster)


@page("docs/clusters.md", "Warm clusters", "yaml")
def test_kuberay_accepts_the_configuration_of_a_pool(printed: str, home: Home) -> None:
    planned(launcher_of(home, yaml.safe_load(printed)))
    wrong = yaml.safe_load(printed.replace("max: 5 ", "max: 0 "))
    with pytest.raises(InvalidConfigError, match="max"):
        planned(launcher_of(home, wrong))


@page("docs/clusters.md", "When clusters are removed", "text")
def test_the_reason_for_which_a_cluster_stays_is_that_of_the_component(printed: str) -> None:
    reason = printed.partition("): ")[2].rpartition(" ")[0]
    assert f'"{reason} {{}}"' in (ROOT / "components/kuberay/src/pool/reconcile.rs").read_text()


@page("docs/services.md", "Services", "python")
def test_the_printed_service_is_an_asset(printed: str) -> None:
    repository = executed(printed)["defs"].get_repository_def()
    assert dg.AssetKey("greeter") in repository.asset_graph.get_all_asset_keys()


@page(f"{HOW_TO}/share-a-cluster.md", "The steps of one run", "yaml")
def test_the_steps_of_a_run_can_share_a_cluster(printed: str, home: Home) -> None:
    # The plan of a step on a shared cluster names the cluster of its run.
    plan = planned(launcher_of(home, yaml.safe_load(printed)))
    assert "RayCluster" in json.dumps(plan) or "cluster" in plan["job"]["details"]


@page(f"{HOW_TO}/replace-the-backend.md", "Name a component", "yaml")
def test_a_backend_can_be_a_component_file(printed: str, home: Home, tmp_path: Path) -> None:
    wasm = built_in("existing", tmp_path / "ours.wasm")
    launcher = with_lines(home, printed.replace("/opt/backends/ours.wasm", str(wasm)))
    assert planned(launcher)["job"]["submission_id"].startswith("dagster-step-r")
    # The commented line shows the other form, an OCI reference.
    [line] = [line for line in printed.splitlines() if "#" in line]
    _is_reference(yaml.safe_load(line.replace("# ", ""))["backend"])


@page(f"{HOW_TO}/publish-a-backend.md", "Use", "yaml")
def test_a_published_backend_is_a_reference_with_a_digest(printed: str) -> None:
    _is_reference(yaml.safe_load(printed)["backend"])


def _is_reference(printed: str) -> None:
    assert re.fullmatch(r"oci://[a-z./]+@sha256:[0-9a-f]{64}", printed)


@page(f"{HOW_TO}/replace-the-backend.md", "Restrict it", "yaml")
def test_the_operators_grants_limits_and_digest_restrict_a_backend(
    printed: str, home: Home, tmp_path: Path
) -> None:
    def launcher(wasm: Path) -> Any:
        return with_lines(home, f"    backend: {wasm}\n{_pinned(printed, wasm)}")

    pinned = launcher(put(FIXTURES / "echo.wasm", tmp_path / "ours.wasm"))
    assert pinned.backend.config.backend_grants == {
        "grants": {"http": ["address"]},
        "limits": {"memory_mib": 32},
    }
    assert planned(pinned)["job"]["submission_id"] == "echo-s"
    # A component that also requires the grant `packages` is refused.
    more = launcher(built_in("existing", tmp_path / "more.wasm"))
    with pytest.raises(ComponentLoadError, match="packages"):
        planned(more)
    # A file with another digest at the same path is not loaded.
    built_in("existing", tmp_path / "ours.wasm")
    with pytest.raises(ComponentLoadError, match="sha256"):
        planned(pinned)


@page(SECURITY, "Restricting a backend", "yaml")
def test_a_manifest_can_be_pinned(printed: str, home: Home, tmp_path: Path) -> None:
    wasm = put(FIXTURES / "echo.wasm", tmp_path / "ours.wasm")
    manifest = wasm.with_suffix(".toml")
    [example] = re.findall(r"manifest_sha256: ([0-9a-f]{64})", printed)
    text = _pinned(printed, wasm).replace(example, _sha256(manifest))
    text = text.replace("/opt/backends/ours.wasm", str(wasm))
    launcher = launcher_of(home, yaml.safe_load(text))
    assert planned(launcher)["job"]["submission_id"] == "echo-s"
    manifest.write_text(manifest.read_text() + "\n# changed\n")
    with pytest.raises(ComponentLoadError, match="manifest_sha256"):
        planned(launcher)


def _pinned(printed: str, wasm: Path) -> str:
    [example] = re.findall(r"backend_sha256: ([0-9a-f]{64})", printed)
    return printed.replace(example, _sha256(wasm))


def _sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


@page("docs/reference/manifest.md", "The manifest of a component", "toml")
def test_the_printed_manifest_grants_what_a_component_imports(printed: str, tmp_path: Path) -> None:
    wasm = built_in("existing", tmp_path / "ours.wasm")
    wasm.with_suffix(".toml").write_text(printed)
    config = BackendConfig(backend=str(wasm), address="http://127.0.0.1:9")
    assert Backend(config, is_checked=True).call("describe.describe", {})["name"] == "existing"
    wasm.with_suffix(".toml").write_text(printed.replace("packages = true", ""))
    with pytest.raises(ComponentLoadError, match="packages"):
        Backend(config, is_checked=True).call("describe.describe", {})


@pytest.mark.parametrize(
    ("heading", "grants"),
    [
        ("A batch scheduler with an HTTP API", ["address"]),
        ("A choice between clusters", ["https://ray-a.example.org", "https://ray-b.example.org"]),
    ],
)
def test_the_manifests_of_the_gallery_are_valid(
    heading: str, grants: list[str], tmp_path: Path
) -> None:
    wasm = put(FIXTURES / "echo.wasm", tmp_path / "ours.wasm")
    wasm.with_suffix(".toml").write_text(page_block(GALLERY, heading, "toml"))
    found = json.loads(run_shell(f"dagster-ray inspect --json {wasm}", tmp_path))
    assert {one["grant"]: one["value"] for one in found["grants"]}["http"] == grants


def test_the_gallery_lists_what_the_built_in_backends_export(tmp_path: Path) -> None:
    text = (ROOT / GALLERY).read_text()
    own = text[: text.index("## A batch scheduler")]
    listed = re.findall(r"^\| `(.+?)` \|.* \| ([a-z, ]+) \|$", own, re.MULTILINE)
    assert [name for name, _ in listed] == ["existing", "local", "kuberay", "simulated"]
    for name, interfaces in listed:
        wasm = BUILT_IN / f"{name}.wasm"
        exports = json.loads(run_shell(f"dagster-ray inspect --json {wasm}", tmp_path))["exports"]
        assert {*interfaces.split(", "), "describe"} == {*exports}, name


@page(SECURITY, "Who may choose what", "toml")
def test_the_printed_policy_allows_what_it_lists(
    printed: str, home: Home, monkeypatch: Any
) -> None:
    monkeypatch.delenv("DAGSTER_RAY_POLICY")
    instance = home({})
    Path(instance.root_directory, "dagster-ray.toml").write_text(printed)
    check_run_tag(instance, {"num_cpus": 2})
    for refused in ({"memory": 1}, {"num_cpus": 1, "env_vars": ["AWS_REGION"]}):
        with pytest.raises(PermissionDeniedError, match="tag_fields"):
            check_run_tag(instance, refused)


@page(SECURITY, "Signed components", "shell")
def test_the_printed_commands_sign_and_push(printed: str, registry: str, tmp_path: Path) -> None:
    built_in("existing", tmp_path / "ours.wasm")
    printed = printed.replace("oci://ghcr.io", registry)
    shown = run_shell(printed, tmp_path, {**PASSWORD, "HOME": str(tmp_path)})
    assert (tmp_path / "ours.toml.minisig").is_file()
    assert re.search(r"oci://[^ ]+@sha256:[0-9a-f]{64}", shown)


@page(f"{HOW_TO}/publish-a-backend.md", "Sign", "shell")
def test_the_printed_commands_make_keys_and_a_signature(printed: str, tmp_path: Path) -> None:
    wasm = built_in("existing", tmp_path / "ours.wasm")
    shown = run_shell(printed, tmp_path, PASSWORD)
    # The lines for the policy of instances.
    assert "[signatures.keys]" in shown
    assert f'sha256 = "{_sha256(wasm)}"' in wasm.with_suffix(".toml").read_text()
    assert (tmp_path / "ours.toml.minisig").is_file()


@page(f"{HOW_TO}/publish-a-backend.md", "Push", "shell")
def test_the_printed_command_pushes(printed: str, registry: str, tmp_path: Path) -> None:
    built_in("existing", tmp_path / "ours.wasm")
    printed = printed.replace("oci://ghcr.io", registry)
    assert "@sha256:" in run_shell(printed, tmp_path, {"HOME": str(tmp_path)})


@page(SECURITY, "Audit trail", "python")
def test_the_printed_line_turns_the_audit_trail_on(printed: str) -> None:
    logger = logging.getLogger("dagster_ray.audit")
    before = logger.level
    try:
        executed(printed, logging=logging)
        assert logger.isEnabledFor(logging.INFO)
    finally:
        logger.setLevel(before)


# What a created project's README prints under the same headings. test_third_party_backends.py
# builds such projects.
_OF_PROJECTS = {
    language: {
        (heading, kind): page_block(f"{HOW_TO}/backend-in-{language}.md", heading, kind)
        for heading, kind in (("Build", "shell"), ("Check", "shell"), ("Use", "yaml"))
    }
    for language in ("rust", "python")
}
_CREATE = {
    language: page_block(f"{HOW_TO}/backend-in-{language}.md", "Create a project", "shell")
    for language in ("rust", "python")
}


@pytest.mark.parametrize("language", ["rust", "python"])
def test_the_page_prints_the_commands_of_the_created_project(language: str, tmp_path: Path) -> None:
    run_shell(_CREATE[language], tmp_path)
    readme = (tmp_path / "my-backend/README.md").read_text()
    of_project = {(block.heading, block.language): block.text for block in blocks(readme)}
    for key, printed in _OF_PROJECTS[language].items():
        assert printed == of_project[key], key


def test_an_invalid_configuration_fails_these_checks(home: Home) -> None:
    """Guards against checks that accept any printed text."""
    printed = yaml.safe_load(json.dumps({"run_launcher": {"module": "dagster_ray"}}))
    printed["run_launcher"] |= {"class": "RayRunLauncher", "config": {"num_cpu": 1}}
    with pytest.raises(dg.DagsterInvalidConfigError):
        launcher_of(home, printed)
