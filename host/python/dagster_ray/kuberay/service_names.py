"""Names of Kubernetes services."""


def k8s_service_fqdn(service_name: str, namespace: str) -> str:
    """Returns the name of a service in the default DNS domain of a cluster, `cluster.local`."""
    return f"{service_name}.{namespace}.svc.cluster.local"


__all__ = ["k8s_service_fqdn"]
