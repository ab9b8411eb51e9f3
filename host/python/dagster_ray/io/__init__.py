"""The IO manager, the serialization of values, and the value stores that components use.

A component decides keys and retention. The stores only move bytes. This file imports nothing: Ray
imports the package in the worker of the value registry actor, which must not import Dagster.
"""
