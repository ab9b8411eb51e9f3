"""The program behind the command ``dagster-ray doctor``, which checks the arguments first."""

import argparse
import json
import sys
from collections.abc import Iterator
from contextlib import ExitStack

from dagster_ray.doctor.check import Check
from dagster_ray.doctor.installation import check_cache, check_packages, check_versions
from dagster_ray.doctor.kubernetes import check_kubernetes
from dagster_ray.doctor.ray_head import check_certificates, check_ray
from dagster_ray.doctor.ray_job import check_job
from dagster_ray.doctor.subject import (
    Options,
    Subject,
    check_policy,
    choose_backend,
    open_instance,
)


def checks(options: Options) -> Iterator[Check]:
    """Makes all checks, in the order in which later ones depend on earlier ones."""
    yield check_packages()
    yield from check_versions()
    yield check_cache()
    subject = Subject(options)
    with ExitStack() as stack:
        yield open_instance(subject, stack)
        yield check_policy(subject)
        yield from choose_backend(subject)
        backend = subject.backend
        if backend is None:
            return
        yield from check_certificates(backend)
        results: list[Check] = []
        for check in check_kubernetes(subject, backend):
            results.append(check)
            yield check
        if not subject.is_on_kubernetes:
            results.append(check_ray(subject, backend))
            yield results[-1]
        if all(check.outcome != "failed" for check in results):
            yield from check_job(subject, backend)


def main() -> int:
    """Prints each result when it is known, or one JSON document."""
    parser = argparse.ArgumentParser("dagster-ray doctor")
    parser.add_argument("--address")
    parser.add_argument("--backend")
    parser.add_argument("--namespace")
    parser.add_argument("--no-job", action="store_true")
    parser.add_argument("--start-cluster", action="store_true")
    parser.add_argument("--timeout", type=float)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    options = Options(
        address=arguments.address,
        backend=arguments.backend,
        namespace=arguments.namespace,
        submit=not arguments.no_job,
        start_cluster=arguments.start_cluster,
        timeout=arguments.timeout,
    )
    results: list[Check] = []
    for check in checks(options):
        results.append(check)
        if not arguments.json:
            sys.stdout.write(f"{check.text()}\n")
            sys.stdout.flush()
    if arguments.json:
        document = {"checks": [check.document() for check in results]}
        sys.stdout.write(json.dumps(document, indent=2) + "\n")
    return 1 if any(check.outcome == "failed" for check in results) else 0


if __name__ == "__main__":
    sys.exit(main())
