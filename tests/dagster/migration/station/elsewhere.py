"""The same classes under their other module paths: older code of the station imports those."""

from dagster_ray import (
    Lifecycle,
    LocalRay,
    PipesRayJobClient,
    PipesRayJobMessageReader,
    RayIOManager,
    RayResource,
    RayRunLauncher,
    configs,
    core,
    kuberay,
    ray_executor,
)
from dagster_ray._base.resources import RayResource as BaseResource
from dagster_ray.configs import Lifecycle as ConfiguredLifecycle
from dagster_ray.core import Lifecycle as CoreLifecycle
from dagster_ray.core import LocalRay as CoreLocalRay
from dagster_ray.core import PipesRayJobClient as CorePipesClient
from dagster_ray.core import PipesRayJobMessageReader as CoreReader
from dagster_ray.core import RayIOManager as CoreIOManager
from dagster_ray.core import RayResource as CoreResource
from dagster_ray.core import RayRunLauncher as CoreLauncher
from dagster_ray.core import ray_executor as core_executor
from dagster_ray.core.executor import RayStepHandler
from dagster_ray.core.executor import ray_executor as executor_of_module
from dagster_ray.core.io_manager import DAGSTER_RAY_NAMESPACE
from dagster_ray.core.io_manager import RayIOManager as ManagerOfModule
from dagster_ray.core.pipes import (
    PIPES_LAUNCHED_EXTRAS_RAY_ADDRESS_KEY,
    PIPES_LAUNCHED_EXTRAS_RAY_JOB_ID_KEY,
)
from dagster_ray.core.pipes import PipesRayJobClient as PipesOfModule
from dagster_ray.core.pipes import PipesRayJobMessageReader as ReaderOfModule
from dagster_ray.core.resources import LocalRay as LocalOfModule
from dagster_ray.core.run_launcher import RayRunLauncher as LauncherOfModule
from dagster_ray.kuberay import KubeRayCluster, KubeRayJobClientResource, RayJobConfig
from dagster_ray.kuberay.client import RayClusterClient, RayJobClient
from dagster_ray.kuberay.client.raycluster import RayClusterClient as ClusterClientOfPackage
from dagster_ray.kuberay.client.raycluster.client import (
    GROUP,
    KIND,
    PLURAL,
    VERSION,
    RayClusterStatus,
)
from dagster_ray.kuberay.client.raycluster.client import RayClusterClient as ClusterClientOfModule
from dagster_ray.kuberay.client.rayjob import RayJobClient as JobClientOfPackage
from dagster_ray.kuberay.client.rayjob.client import RayJobClient as JobClientOfModule
from dagster_ray.kuberay.configs import (
    ClusterSharing,
    ClusterSharingHeartbeat,
    RayClusterConfig,
    RayClusterSpec,
    RayJobSpec,
)
from dagster_ray.kuberay.configs import RayJobConfig as JobConfigOfModule
from dagster_ray.kuberay.jobs import delete_kuberay_clusters
from dagster_ray.kuberay.ops import delete_kuberay_clusters_op
from dagster_ray.kuberay.pipes import PipesKubeRayJobClient
from dagster_ray.kuberay.resources import KubeRayCluster as ClusterOfPackage
from dagster_ray.kuberay.resources import KubeRayClusterClientResource, KubeRayInteractiveJob
from dagster_ray.kuberay.resources import KubeRayJobClientResource as JobClientResource
from dagster_ray.kuberay.resources import RayClusterConfig as ClusterConfigOfPackage
from dagster_ray.kuberay.resources import RayClusterSpec as ClusterSpecOfPackage
from dagster_ray.kuberay.resources import RayJobConfig as JobConfigOfPackage
from dagster_ray.kuberay.resources import RayJobSpec as JobSpecOfPackage
from dagster_ray.kuberay.resources.rayjob import KubeRayInteractiveJob as JobOfModule
from dagster_ray.kuberay.sensors import cleanup_expired_kuberay_clusters

ALIKE = [
    (Lifecycle, ConfiguredLifecycle, CoreLifecycle, configs.Lifecycle),
    (LocalRay, CoreLocalRay, LocalOfModule),
    (PipesRayJobClient, CorePipesClient, PipesOfModule),
    (PipesRayJobMessageReader, CoreReader, ReaderOfModule),
    (RayIOManager, CoreIOManager, ManagerOfModule),
    (RayResource, BaseResource, CoreResource),
    (RayRunLauncher, CoreLauncher, LauncherOfModule, core.RayRunLauncher),
    (ray_executor, core_executor, executor_of_module),
    (KubeRayCluster, ClusterOfPackage),
    (KubeRayInteractiveJob, JobOfModule),
    (KubeRayJobClientResource, JobClientResource),
    (KubeRayClusterClientResource, kuberay.KubeRayClusterClientResource),
    (RayClusterClient, ClusterClientOfPackage, ClusterClientOfModule),
    (RayJobClient, JobClientOfPackage, JobClientOfModule),
    (RayClusterConfig, ClusterConfigOfPackage, kuberay.RayClusterConfig),
    (RayClusterSpec, ClusterSpecOfPackage, kuberay.RayClusterSpec),
    (RayJobConfig, JobConfigOfModule, JobConfigOfPackage),
    (RayJobSpec, JobSpecOfPackage, kuberay.RayJobSpec),
    (ClusterSharing, kuberay.ClusterSharing),
    (ClusterSharingHeartbeat, kuberay.ClusterSharingHeartbeat),
    (PipesKubeRayJobClient, kuberay.PipesKubeRayJobClient),
    (delete_kuberay_clusters, kuberay.delete_kuberay_clusters),
    (delete_kuberay_clusters_op, kuberay.delete_kuberay_clusters_op),
    (cleanup_expired_kuberay_clusters, kuberay.cleanup_expired_kuberay_clusters),
]
KEYS = {PIPES_LAUNCHED_EXTRAS_RAY_ADDRESS_KEY, PIPES_LAUNCHED_EXTRAS_RAY_JOB_ID_KEY}
CLUSTER_OBJECT = f"{GROUP}/{VERSION}/{PLURAL}/{KIND}"
STORED_IN = DAGSTER_RAY_NAMESPACE
HANDLER = RayStepHandler
STATUS = RayClusterStatus
