"""Real radar frames through the float model, the integer model and the hardware, and the hardware's files for two targets."""

import sys
from pathlib import Path

import numpy as np

from emamba import datasets
from emamba.artifact import load
from emamba.base.door import guarded
from emamba.base.errors import EmambaError
from emamba.datasets.metrics import figures
from emamba.datasets.tokens import executor_tokens
from emamba.run.executors import make_executor, predict
from flow import build
from sim.executor import RtlExecutor

ARTIFACT = Path("models/mars")
FRAMES = 1000
CYCLES_PER_TOKEN = 20
SHOWN = 8


def main() -> None:
    artifact = load(ARTIFACT)
    data = datasets.load("mars", "official")
    chosen = np.linspace(0, len(data.x_test) - 1, FRAMES).astype(int)
    tokens, truth = executor_tokens(data.x_test[chosen], artifact.config), data.y_test[chosen]
    print(f"{FRAMES} of {len(data.x_test)} MARS radar frames ({data.note}), {artifact.config.tokens} tokens each, "
          f"{truth.shape[1]} joint coordinates")

    poses = {name: predict(artifact, name, make_executor(artifact, name), tokens) for name in ("float", "int")}
    print(f"building the hardware's simulation at {CYCLES_PER_TOKEN} cycles a token (a minute or two the first time)", flush=True)
    rtl = RtlExecutor(artifact, CYCLES_PER_TOKEN)
    poses["rtl"] = artifact.codec.decode(rtl.answer(artifact.codec.encode(tokens, artifact.input))[:, 0],
                                         artifact.output)

    print(f"\n{'':24}{'float':>10}{'int':>10}{'rtl':>10}   mean error of the pose, cm")
    for k in range(0, FRAMES, FRAMES // SHOWN):
        errors = [np.abs(pose[k] - truth[k]).mean() * 100 for pose in poses.values()]
        print(f"frame {chosen[k]:<18}" + "".join(f"{error:10.3f}" for error in errors))
    for name, key in (("MAE of all, cm", "mae"), ("RMSE of all, cm", "rmse")):
        print(f"{name:24}" + "".join(f"{figures('regression', pose, truth, 100)[key]:10.3f}" for pose in poses.values()))
    different = int((poses["int"] != poses["rtl"]).sum())
    print(f"values in which RTL and integer model differ: {different} of {truth.size}")

    cycles, schedule = rtl.last.output_cycles, rtl.schedule
    per_frame = set(np.diff(cycles[schedule.output.beats - 1::schedule.output.beats]).tolist())
    latency = int(cycles[schedule.output.beats - 1] - rtl.last.first_input)
    print(f"cycles a frame: {per_frame} measured, {schedule.cycles_per_frame} scheduled; latency: {latency} measured, "
          f"{schedule.latency} scheduled; {schedule.multipliers} multipliers, {schedule.report()['utilization']:.1%} busy")
    if different or per_frame != {schedule.cycles_per_frame} or latency != schedule.latency:
        raise EmambaError("the hardware's simulation is not what the integer model and the schedule say")

    for target in ("zcu102", "asic"):
        print(f"\npython -m rtl.build {target}", flush=True)
        if build.main([target, "--artifact", str(ARTIFACT), "--cycles-per-token", str(CYCLES_PER_TOKEN)]):
            raise EmambaError(f"the {target} files were not written")
    print("\nzcu102 has fewer multipliers than the simulation above: for that device tables take the place of those in exp.\n"
          "next: docs/tutorial.md, from your own data to a board's files")


if __name__ == "__main__":
    sys.exit(guarded("demo", main))
