"""Reduces what a step must know about its run to what the step depends on."""

from typing import Any

from dagster_ray.dagster_internals import KnownExecutionState, PastExecutionState


def known_to_step(state: KnownExecutionState, step: Any) -> KnownExecutionState:
    """Returns the part of a run's state that one step uses.

    The whole state grows with the run, and each step would receive it.
    """
    handles = {
        handle
        for step_input in step.step_inputs
        for handle in step_input.get_step_output_handle_dependencies()
    }
    attempts = state.previous_retry_attempts
    return KnownExecutionState(
        previous_retry_attempts={step.key: attempts[step.key]} if step.key in attempts else {},
        dynamic_mappings=_mappings(state, step, handles),
        step_output_versions={
            handle: version
            for handle, version in state.step_output_versions.items()
            if handle in handles or handle.step_key == step.key
        },
        ready_outputs=handles & state.ready_outputs,
        parent_state=_past(state.parent_state, handles),
    )


def _mappings(state: KnownExecutionState, step: Any, handles: set[Any]) -> dict[str, Any]:
    """Returns the mapping keys of dynamic outputs that the plan of the step needs.

    A mapped step needs its own key. A step that collects needs all, and any other needs none.
    """
    own: str | None = getattr(step.handle, "mapping_key", None)
    collects = own is None and any(
        handle.mapping_key is not None or "[" in handle.step_key for handle in handles
    )

    def kept(keys: Any) -> Any:
        if not keys or collects:
            return keys
        return [own] if own in keys else []

    return {
        source: {output: kept(keys) for output, keys in outputs.items()}
        for source, outputs in state.dynamic_mappings.items()
    }


def _past(state: PastExecutionState | None, handles: set[Any]) -> PastExecutionState | None:
    if state is None:
        return None
    return PastExecutionState(
        run_id=state.run_id,
        produced_outputs=handles & state.produced_outputs,
        parent_state=_past(state.get_parent_state(), handles),
    )


__all__ = ["known_to_step"]
