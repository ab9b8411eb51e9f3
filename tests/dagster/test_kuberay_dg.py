"""The components for `dg` that need KubeRay, on a real Kubernetes control plane."""

import os
import sys
from pathlib import Path

import dagster as dg
import pytest
from cluster import Cluster
from dagster_ray import RayResource
from dagster_ray.dg import KubeRayClusterComponent, KubeRayPipesComponent
from kube_objects import cluster_spec, names


def _loaded(*components: dg.Component) -> dg.Definitions:
    context = dg.ComponentTree.for_test().load_context
    return dg.Definitions.merge(*(component.build_defs(context) for component in components))


def test_a_script_is_a_rayjob(cluster: Cluster, namespace: str, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "from dagster_pipes import open_dagster_pipes\n"
        "with open_dagster_pipes() as pipes:\n"
        "    pipes.report_asset_materialization(metadata={'rows': pipes.get_extra('rows')})\n"
    )
    component = KubeRayPipesComponent(
        entrypoint=f"{sys.executable} {script}",
        name="nightly",
        assets=[dg.AssetSpec("report")],
        extras={"rows": 7},
        ray_job={
            "metadata": {"namespace": namespace},
            "spec": {"rayClusterSpec": cluster_spec(cluster, tmp_path)},
        },
        kube_config=str(cluster.kubeconfig),
    )
    job = _loaded(component).resolve_implicit_global_asset_job_def()
    result = job.execute_in_process(tags={"dagster/image": cluster.image})
    [made] = result.asset_materializations_for_node("nightly")
    assert made.metadata["rows"].value == 7
    assert len(names(cluster, namespace, "rayjobs")) == 1


@pytest.mark.nightly
@pytest.mark.timeout(200)
def test_a_resource_makes_a_cluster_for_a_step(cluster: Cluster, namespace: str) -> None:
    component = KubeRayClusterComponent(
        image=cluster.image,
        ray_cluster={"metadata": {"namespace": namespace}, "spec": cluster_spec(cluster)},
        kube_config=str(cluster.kubeconfig),
    )

    @dg.asset
    def host(ray_cluster: RayResource) -> str:
        import ray

        # A local function is pickled by value; the cluster cannot import this module.
        name = ray.remote(lambda: os.uname().nodename)
        assert ray.get(name.remote()).startswith(ray_cluster.name)
        return ray_cluster.name

    defs = dg.Definitions.merge(_loaded(component), dg.Definitions(assets=[host]))
    result = defs.resolve_implicit_global_asset_job_def().execute_in_process()
    assert result.output_for_node("host")
    assert names(cluster, namespace, "rayclusters") == []
