"""The reference of the configuration, behind ``dagster-ray explain`` and ``dagster-ray schema``.

Each topic is a JSON schema. It is derived from what accepts the configuration: Dagster's schemas of
the launcher, the executor and the resources, the signatures of the Pipes clients, what the
components report about themselves, and the host's types of manifest and policy.
"""
