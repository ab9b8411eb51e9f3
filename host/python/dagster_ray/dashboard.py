"""Links to the pages of jobs in the Ray dashboard."""

from urllib.parse import urlsplit

from dagster import MetadataValue, UrlMetadataValue

from dagster_ray.contract import JobRef


def dashboard_link(job: JobRef) -> dict[str, UrlMetadataValue]:
    """Returns the metadata entry that links to a job's page, or nothing without an http(s) URL.

    The URL comes from a component, or from a run tag, which anyone can set. Dagster's web server
    makes it a link, and a `javascript:` URL would run in the session of the user who follows it.
    """
    # A reference in a run tag can lack the key.
    url = job.get("dashboard_url")
    if not isinstance(url, str) or not _is_web_page(url):
        return {}
    return {"Ray Dashboard": MetadataValue.url(url)}


def _is_web_page(url: str) -> bool:
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and bool(parts.netloc)
