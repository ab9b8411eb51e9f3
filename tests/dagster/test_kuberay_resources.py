"""The KubeRay resources and the hooks of their subclasses, on the simulated backend."""

from typing import Any

import dagster as dg
import pytest
from cluster_use import use_cluster
from dagster_ray import Lifecycle
from dagster_ray.errors import UnsupportedError
from dagster_ray.kuberay import (
    ClusterSharing,
    KubeRayCluster,
    KubeRayClusterClientResource,
    KubeRayInteractiveJob,
    KubeRayJobClientResource,
    MatchDagsterLabels,
    RayClusterClient,
    RayClusterClientResource,
    RayClusterConfig,
    RayJobClient,
)
from dagster_ray.kuberay.base import BaseKubeRayResource
from dagster_ray.testing import SimulatedRay

NAMESPACE = "pipelines"


def _cluster(**more: Any) -> KubeRayCluster:
    config = RayClusterConfig(metadata={"namespace": NAMESPACE})
    return KubeRayCluster(**{"ray_cluster": config, "image": "i", **more})


def _labels(name: str) -> dict[str, str]:
    return RayClusterClient().get(name, NAMESPACE)["metadata"]["labels"]


def _name(resource: Any) -> str:
    return resource.name


def test_a_cluster_is_labeled_with_its_deployment_job_run_and_resource(
    simulated_ray: SimulatedRay, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DAGSTER_CLOUD_DEPLOYMENT_NAME", "prod")

    class Labeled(KubeRayCluster):
        def get_k8s_labels(self, context: Any) -> dict[str, str]:
            return {**super().get_k8s_labels(context), "team": "models"}

    config = RayClusterConfig(metadata={"namespace": NAMESPACE})
    resource = Labeled(image="i", ray_cluster=config, lifecycle=Lifecycle(cleanup="never"))
    result = use_cluster(resource, _name)
    assert _labels(result.output_for_node("uses")) == {
        "dagster-ray/deployment": "prod",
        # The reconciler keeps a cluster that its user keeps.
        "dagster-ray/keep": "true",
        "dagster/deployment": "prod",
        # Dagster+ sets this tag.
        "dagster/deployment-name": "prod",
        "dagster/job": "job",
        "dagster/run-id": result.run_id,
        "dagster/resource-key": "ray_cluster",
        "team": "models",
    }
    named = _cluster(deployment_name="staging", lifecycle=Lifecycle(cleanup="never"))
    name = use_cluster(named, _name).output_for_node("uses")
    assert _labels(name)["dagster/deployment"] == "staging"
    # Users cannot change the owner.
    assert _labels(name)["dagster-ray/deployment"] == "prod"


def test_the_image_of_the_manifest_overrides_the_resources_and_the_runs() -> None:
    def image(tags: dict[str, str], **more: Any) -> str | None:
        seen = []

        class Asked(KubeRayCluster):
            def create(self, context: Any) -> None:
                seen.append(self.get_image(context))
                raise LookupError("seen")

        with pytest.raises(dg.DagsterError):
            use_cluster(Asked(**more), tags=tags)
        return seen[0]

    tags = {"dagster/image": "of-the-run"}
    manifest = RayClusterConfig(image="of-the-manifest")
    assert image(tags, image="of-the-resource", ray_cluster=manifest) == "of-the-manifest"
    assert image(tags, image="of-the-resource") == "of-the-resource"
    assert image(tags) == "of-the-run"
    assert image({}) is None


def test_the_chosen_labels_decide_which_steps_share_a_cluster(
    simulated_ray: SimulatedRay, monkeypatch: pytest.MonkeyPatch
) -> None:
    # By default, each run has its own instance, and so its own deployment.
    monkeypatch.setenv("DAGSTER_CLOUD_DEPLOYMENT_NAME", "prod")

    def shared(**match: bool) -> str:
        sharing = ClusterSharing(
            enabled=True,
            match_dagster_labels=MatchDagsterLabels(**match),
            match_labels={"team": "x"},
        )
        resource = _cluster(cluster_sharing=sharing, lifecycle=Lifecycle(cleanup="never"))
        return use_cluster(resource, _name).output_for_node("uses")

    first = shared()
    assert shared() == first, "another run shares the cluster"
    monkeypatch.setenv("DAGSTER_CLOUD_DEPLOYMENT_NAME", "staging")
    assert shared() != first, "a run of another deployment has its own cluster"
    # With `run_id`, each run has its own cluster.
    own = {shared(run_id=True), shared(run_id=True)}
    assert len(own) == 2 and first not in own

    tags = {"dagster/git-sha": "abc", "dagster/code-location": "here"}

    class Tagged(KubeRayCluster):
        def get_dagster_tags(self, context: Any) -> dict[str, str]:
            return {**super().get_dagster_tags(context), **tags}

        def on_create(self, context: Any) -> None:
            seen.append(self.get_sharing_label_selector(context))

    def labels(**match: bool) -> dict[str, str]:
        sharing = ClusterSharing(enabled=True, match_dagster_labels=MatchDagsterLabels(**match))
        assert use_cluster(Tagged(image="i", cluster_sharing=sharing)).success
        selected = dict(term.split("=") for term in seen[-1].split(","))
        assert selected.pop("dagster/cluster-sharing") == "true"
        return selected

    seen: list[str] = []
    key = {"dagster/resource-key": "ray_cluster"}
    assert labels() == tags | key
    assert labels(git_sha=False) == {"dagster/code-location": "here"} | key
    assert labels(code_location=False) == {"dagster/git-sha": "abc"} | key
    assert labels(resource_key=False) == tags
    assert set(labels(run_id=True)) == {*tags, *key, "dagster/run-id"}


def test_lifecycle_hooks_are_called_in_order(simulated_ray: SimulatedRay) -> None:
    class Noted(KubeRayCluster):
        def on_create(self, context: Any) -> None:
            super().on_create(context)
            seen.append(("create", self.name, self.created, self.ready))

        def on_ready(self, context: Any) -> None:
            super().on_ready(context)
            seen.append(("ready", self.name, self.created, self.ready))

        def on_connect(self, context: Any) -> None:
            super().on_connect(context)
            seen.append(("connect", self.name, self.connected, self.context is not None))

        def on_cleanup(self, context: Any, *, deleted: bool) -> None:
            super().on_cleanup(context, deleted=deleted)
            seen.append(("cleanup", self.name, deleted, self.connected))

    seen: list[tuple[Any, ...]] = []
    config = RayClusterConfig(metadata={"namespace": NAMESPACE})
    assert use_cluster(Noted(image="i", ray_cluster=config)).success
    [name] = {entry[1] for entry in seen}
    assert seen == [
        ("create", name, True, False),
        ("ready", name, True, True),
        ("connect", name, True, True),
        ("cleanup", name, True, False),
    ]
    assert RayClusterClient().get(name, NAMESPACE) == {}


@pytest.mark.parametrize(("logged", "level"), [(True, "INFO"), (False, "DEBUG")])
def test_cluster_conditions_are_logged_at_the_configured_level(
    simulated_ray: SimulatedRay, tmp_path: Any, logged: bool, level: str
) -> None:
    simulated_ray.cluster_starts(seconds=None)
    with dg.DagsterInstance.local_temp(str(tmp_path)) as instance:
        resource = _cluster(timeout=5, log_cluster_conditions=logged)
        with pytest.raises(dg.DagsterError):
            use_cluster(resource, instance=instance)
        [run] = instance.get_runs()
        levels = [
            entry.level
            for entry in instance.all_logs(run.run_id)
            if "is not ready after 5 s" in entry.user_message
        ]
    assert levels == [{"INFO": 20, "DEBUG": 10}[level]]


def test_the_error_for_a_property_that_is_not_set_yet_names_the_method_to_call() -> None:
    resource = KubeRayCluster()
    assert isinstance(resource, BaseKubeRayResource)
    assert (resource.namespace, resource.display_name) == ("ray", "a new RayCluster")
    assert KubeRayInteractiveJob().display_name == "a new RayJob"
    for missing, call in {"name": "create", "host": "wait", "context": "connect"}.items():
        with pytest.raises(RuntimeError, match=f"call `{call}` first"):
            getattr(resource, missing)
    assert resource.resolve_hostname("head", "ns") == "head.ns.svc.cluster.local"
    assert resource.resource_uid != KubeRayCluster().resource_uid


def test_client_resources_create_clients_with_their_connection(
    simulated_ray: SimulatedRay,
) -> None:
    assert RayClusterClientResource is KubeRayClusterClientResource
    grants = {"grants": {"cluster_services": [{"namespaces": ["ray"], "ports": [8265]}]}}
    named = {"kube_config": "/no/config", "kube_context": "c", "backend_grants": grants}
    earlier = {"kubeconfig_file": named["kube_config"], **named}
    del earlier["kube_config"]
    for resource, kind in (
        (RayClusterClientResource(**named), RayClusterClient),
        (KubeRayJobClientResource(**named), RayJobClient),
        (KubeRayJobClientResource(**earlier), RayJobClient),
    ):
        client = resource.create_resource(dg.build_init_resource_context())
        assert type(client) is kind and client.client is client
        config = client.backend_for().config
        assert config.kube_config == "/no/config" and config.kube_context == "c"
        assert config.backend_grants == grants


def test_the_client_creates_updates_and_deletes_objects(simulated_ray: SimulatedRay) -> None:
    client = RayClusterClient()
    made = client.create({"metadata": {"name": "one", "labels": {"a": "b"}}, "spec": {}}, NAMESPACE)
    assert made["metadata"]["name"] == "one"
    assert client.get_status("one", NAMESPACE).get("state") == "ready"
    for selector, count in {"": 1, "team!=x, user!=y": 1, "team==x": 0}.items():
        assert len(client.list(NAMESPACE, selector)["items"]) == count, selector
    with pytest.raises(UnsupportedError, match="a in \\(b\\)"):
        client.list(NAMESPACE, "a in (b)")
    changed = client.update("one", NAMESPACE, {"spec": {"suspend": True}})
    assert changed["spec"]["suspend"] is True
    client.delete("one", NAMESPACE)
    assert client.get("one", NAMESPACE) == {}
    client.delete("one", NAMESPACE)
