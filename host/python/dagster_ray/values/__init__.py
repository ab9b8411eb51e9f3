"""Serialization of values, and the value stores that components use.

A component decides keys and retention. The stores only move bytes.
"""
