"""The embedded platform's Results Service over HTTP (clara-wire, section 8).

The three routes below ``/api/tasks`` are Clara's. How Clara's register-results operator adds a task is not known, so
``/embedded/tasks`` is this product's own, for tests and for looking at what is there.
"""

from typing import Annotated, Any

from fastapi import Body, FastAPI, HTTPException, Query, Response
from fastapi_offline import FastAPIOffline
from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from clara_dicom_adapter.clara.embedded.tasks import NewTask, Task, TaskEnded, TaskState, TaskStore, TaskUnknown

CLARA = "Results Service"
OURS = "embedded platform (not part of Clara's Results Service)"


class _Body(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="forbid")


class TaskBody(_Body):
    """A task as agents see it."""

    task_id: str
    job_id: str
    pipeline_id: str
    payload_id: str
    parameters: str
    state: TaskState
    agent: str
    retries: int
    uris: list[str]


class NewTaskBody(_Body):
    """A task to be registered by hand."""

    job_id: str
    pipeline_id: str = ""
    payload_id: str
    agent: str = Field(min_length=1, max_length=63)
    parameters: str = ""
    uris: list[str] = Field(min_length=1)


class Registered(_Body):
    task_id: str


def application(tasks: TaskStore) -> FastAPI:
    """The HTTP application."""
    app = FastAPIOffline(title="Clara Results Service (embedded)", redoc_url=None)

    @app.get("/api/tasks/{agent}/pending", tags=[CLARA])
    def pending(agent: str, size: Annotated[int, Query(ge=1, le=1000)] = 10) -> list[TaskBody]:
        """Tasks that wait for an agent, longest waiting first; they stay listed until they are reported."""
        return [_body(task) for task in tasks.offered(agent, size)]

    @app.put("/api/tasks/success/{task_id}", tags=[CLARA])
    def success(task_id: str) -> Response:
        """A task is done; safe to repeat."""
        return _reported(lambda: tasks.succeeded(task_id))

    @app.put("/api/tasks/failure/{task_id}", tags=[CLARA])
    def failure(task_id: str, body: Annotated[dict[str, Any] | None, Body()] = None) -> Response:
        """A task failed; with ``RetryLater`` it is offered again, and its ``retries`` is one higher."""
        fields = {key.lower(): value for key, value in (body or {}).items()}
        return _reported(lambda: tasks.failed(task_id, retry_later=fields.get("retrylater") is True))

    @app.get("/embedded/tasks", tags=[OURS])
    def all_tasks(state: TaskState | None = None, size: Annotated[int, Query(ge=1, le=1000)] = 100) -> list[TaskBody]:
        """Every task, also those that have ended."""
        return [_body(task) for task in tasks.find(state=state, size=size)]

    @app.post("/embedded/tasks", tags=[OURS], status_code=201)
    def register(body: NewTaskBody) -> Registered:
        """Register a task without a pipeline."""
        return Registered(task_id=tasks.add(NewTask(**{**body.model_dump(), "uris": tuple(body.uris)})))

    return app


def _reported(report: Any) -> Response:
    try:
        report()
    except TaskUnknown:
        raise HTTPException(404, "no such task") from None
    except TaskEnded:
        raise HTTPException(409, "the task was reported with another result") from None
    return Response(status_code=200)


def _body(task: Task) -> TaskBody:
    return TaskBody(
        task_id=task.task_id,
        job_id=task.job_id,
        pipeline_id=task.pipeline_id,
        payload_id=task.payload_id,
        parameters=task.parameters,
        state=task.state,
        agent=task.agent,
        retries=task.retries,
        uris=list(task.uris),
    )
