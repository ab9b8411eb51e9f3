"""Links to the pages of jobs in the Ray dashboard."""

import json
from string import Formatter
from typing import Any, cast
from urllib.parse import quote, urlsplit

from dagster import MetadataValue, UrlMetadataValue

from dagster_ray.contract import JobRef

# The placeholders of the option `dashboard_link`. On KubeRay, a job has a RayCluster that exists
# before it, or a RayJob, whose RayCluster KubeRay creates and names later.
_PLACEHOLDERS = ("job", "namespace", "cluster", "rayjob")
_OBJECTS = {"RayCluster": "cluster", "RayJob": "rayjob"}


def link_problem(template: str) -> str | None:
    """Returns why a value of the option `dashboard_link` is not valid, or `None` if it is."""
    try:
        parts = list(Formatter().parse(template))
    except ValueError as error:
        return str(error)
    for _, name, format_spec, conversion in parts:
        if name is not None and (name not in _PLACEHOLDERS or format_spec or conversion):
            known = ", ".join(f"{{{name}}}" for name in _PLACEHOLDERS)
            return f"its placeholders can only be {known}"
    if not _is_web_page(_filled(template, dict.fromkeys(_PLACEHOLDERS, "x"))):
        return "it is not an http:// or https:// URL"
    return None


def dashboard_link(job: JobRef, template: str | None = None) -> dict[str, UrlMetadataValue]:
    """Returns the metadata entry that links to a job's page, or nothing without an http(s) URL.

    `template` is a valid value of the option `dashboard_link`. A job that has no value for one of
    its placeholders has no link.

    Without it, the URL comes from a component, or from a run tag, which anyone can set. Dagster's
    web server makes it a link, and a `javascript:` URL would run in the session of the user who
    follows it.
    """
    if template is not None:
        try:
            url = _filled(template, _values(job))
        except KeyError:
            return {}
    else:
        # A reference in a run tag can lack the key.
        url = job.get("dashboard_url")
    if not isinstance(url, str) or not _is_web_page(url):
        return {}
    return {"Ray Dashboard": MetadataValue.url(url)}


def _values(job: JobRef) -> dict[str, str]:
    try:
        details = json.loads(job.get("details") or "{}")
    except ValueError:
        details = None
    found: dict[str, Any] = cast("dict[str, Any]", details) if isinstance(details, dict) else {}
    named = {"job": job["submission_id"], "namespace": found.get("namespace")}
    kind = found.get("kind")
    if isinstance(kind, str) and kind in _OBJECTS:
        named[_OBJECTS[kind]] = found.get("name")
    return {name: value for name, value in named.items() if isinstance(value, str)}


def _filled(template: str, values: dict[str, str]) -> str:
    return template.format(**{name: quote(value, safe="") for name, value in values.items()})


def _is_web_page(url: str) -> bool:
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and bool(parts.netloc)
