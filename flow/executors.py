"""Every executor of an artifact, the hardware among them: the same tokens in, the same trace keys out."""

from emamba.artifact import Artifact
from emamba.base.errors import SettingError
from emamba.run import executors
from emamba.run.executors import Executor
from rtl.engine.machine import Machine
from rtl.engine.schedule import EngineSchedule
from rtl.plan.planner import CYCLES_PER_TOKEN
from sim.executor import RtlExecutor

BACKENDS = (*executors.BACKENDS, "rtl")


def make_executor(artifact: Artifact, backend: str, *, cycles_per_token: int | Machine = CYCLES_PER_TOKEN,
                  trace: bool = False) -> Executor:
    """A function of (tokens [batch, L, input width] in the user's unit, keys to keep or None) → node values.

    Values of `float` are real; `int` and `rtl` give integers of each node's format. `rtl` is the Verilated
    design at `cycles_per_token`, or the engine of a machine, built in the user's cache; with `trace` it shows every
    node, else the head only.
    """
    if backend not in BACKENDS:
        raise SettingError(f"there is no backend '{backend}'; choose one of {', '.join(BACKENDS)}")
    if backend != "rtl":
        return executors.make_executor(artifact, backend)
    design = cycles_per_token if isinstance(cycles_per_token, int) else EngineSchedule(artifact, cycles_per_token)
    rtl = RtlExecutor(artifact, design, trace=trace)
    return lambda tokens, keep=None: rtl.run(artifact.codec.encode(tokens, artifact.input), keep)
