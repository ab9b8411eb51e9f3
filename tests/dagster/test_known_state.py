"""What a step's worker receives of the state of its run."""

import dagster as dg
from dagster._core.execution.api import create_execution_plan
from dagster._core.execution.plan.outputs import StepOutputHandle
from dagster._core.execution.plan.state import KnownExecutionState, PastExecutionState
from dagster._serdes import serialize_value
from dagster_ray.executor.known_state import known_to_step

WIDTH = 10_000


@dg.op(out=dg.DynamicOut(int))
def spread():
    yield dg.DynamicOutput(1, mapping_key="n_0")


@dg.op
def double(number: int) -> int:
    return number * 2


@dg.op
def gather(numbers: list[int]) -> int:
    return sum(numbers)


@dg.op
def after(total: int) -> int:
    return total


@dg.job
def wide():
    after(gather(spread().map(double).collect()))


def test_a_step_receives_what_it_depends_on_and_its_plan_can_be_built_from_that() -> None:
    keys = [f"n_{number}" for number in range(WIDTH)]
    doubled = {StepOutputHandle(f"double[{key}]", "result") for key in keys}
    spread_out = {StepOutputHandle("spread", "result", key) for key in keys}
    total = StepOutputHandle("gather", "result")
    state = KnownExecutionState(
        previous_retry_attempts={"double[n_7]": 2, "double[n_8]": 1},
        dynamic_mappings={"spread": {"result": keys}},
        step_output_versions=dict.fromkeys([*doubled, total], "1"),
        ready_outputs=doubled | spread_out | {total},
        parent_state=PastExecutionState("parent", {*doubled, total}, None),
    )
    plan = create_execution_plan(wide, known_state=state)

    def known(key: str) -> KnownExecutionState:
        reduced = known_to_step(state, plan.get_step_by_key(key))
        step = create_execution_plan(
            wide, step_keys_to_execute=[key], known_state=reduced
        ).get_step_by_key(key)
        whole = plan.get_step_by_key(key)
        assert [one.source for one in step.step_inputs] == [one.source for one in whole.step_inputs]
        return reduced

    mapped = known("double[n_7]")
    assert mapped.get_retry_state().get_attempt_count("double[n_7]") == 2
    assert mapped.ready_outputs == {StepOutputHandle("spread", "result", "n_7")}
    last = known("after")
    assert last.ready_outputs == {total}
    assert last.parent_state is not None and last.parent_state.produced_outputs == {total}
    # A step reads the versions of its inputs and of its own outputs.
    assert last.step_output_versions == {total: "1"}
    assert mapped.step_output_versions == {StepOutputHandle("double[n_7]", "result"): "1"}
    assert all(len(serialize_value(one)) < 2000 for one in (mapped, last))
    assert known("gather").ready_outputs == doubled
