"""Where work that needs a framework is done: worker processes of this machine, or a Ray cluster.

What is asked (`Task`: a function's name and JSON arguments) and what is answered (`Outcome`) are the same in both, so
that nobody above knows which it is. Costs are no tasks: they are measured on the machine that asks, by `zoo.cost`.
"""

from __future__ import annotations

from zoo.executor.local import LocalExecutor as LocalExecutor
from zoo.executor.ray_cluster import RayExecutor as RayExecutor
from zoo.executor.task import THREAD_SETTINGS as THREAD_SETTINGS
from zoo.executor.task import Executor as Executor
from zoo.executor.task import Outcome as Outcome
from zoo.executor.task import Say as Say
from zoo.executor.task import Task as Task
from zoo.executor.task import thread_settings as thread_settings


def executor(ray: str | None = None, *, threads: int | None = None, say: Say | None = None) -> Executor:
    """Processes of this machine, or with `ray` the cluster at that address; a context manager.

    threads: of each task, None: this machine's cores. It decides the last bits of a training run; so a cluster's
    workers get as many as here.
    Raises FrameworkMissingError (no Ray here), InputError (no cluster there, or one of other versions).
    """
    env = thread_settings(threads)
    if ray is None:
        return LocalExecutor(env)
    return RayExecutor(ray, env=env, say=say)
