"""An engine of Mamba in float32, an object that its user compiled, beside the integers of the same shape on a Cortex-M4.

The object defines the two functions that floating.c calls. Instructions are the mean of eight tokens; RAM is what it
allocates and its own data, without weights and stack.
"""

from pathlib import Path
from tempfile import TemporaryDirectory

from emamba.base.errors import InputError, ToolFailed
from emamba.config import ModelConfig
from emamba.micro.measure import CORES, link, measure, run, start
from emamba.micro.project import Project
from sim.models import random_artifact, random_inputs

CORE = "m4"
SHAPE = {"form": "standard", "input": "tokens", "vocabulary": 16, "length": 8, "d_model": 64, "d_state": 16, "dt_rank": 4,
         "d_conv": 4, "blocks": 2, "norm": "rms", "pool": "none", "task": "next_token", "outputs": 16}
"""Of a model of keyword spotting; the engine has the same, and what it has beyond that counts too."""
FPU = "-mfpu=fpv4-sp-d16", "-mfloat-abi=hard"
LIBRARIES = "-lm", "-lc", "-lnosys", "-Wl,--defsym=end=bss_end"
HARNESS = Path(__file__).with_suffix(".c")


def measured(engines: list[Path]) -> list[dict]:
    """A row of each engine, and one of the integers."""
    if not engines:
        raise InputError("the section floating needs --engine OBJECT, compiled for a Cortex-M4")
    artifact = random_artifact(ModelConfig(**SHAPE))
    project = Project(artifact, artifact.codec.encode(random_inputs(artifact.config, 1, seed=5), artifact.input))
    with TemporaryDirectory() as name:
        folder = Path(name)
        project.write(folder)
        rows = [engine(folder, path) for path in engines]
        found = measure(folder, CORE, project.source.ram)
    if found.wrong:
        raise ToolFailed("the integers on a Cortex-M4 differ from the integer model's")
    return [*rows, {"numbers": "integers", "instructions": round(found.instructions / SHAPE["length"]), "ram": found.ram}]


def engine(folder: Path, path: Path) -> dict:
    """What an engine takes, with the files of a project in `folder`."""
    tools = CORES[CORE].tools
    fpu = "Tag_ABI_VFP_args: VFP registers" in run([f"{tools}-readelf", "-A", path])
    newlib = Path(run([f"{tools}-gcc", "-print-file-name=libc.a"]).strip()).is_absolute()  # which not every engine needs
    program = link(folder, CORE, (HARNESS, path.resolve(), *start(CORE)), FPU if fpu else (), LIBRARIES if newlib else ())
    try:
        units, used = map(int, run([CORES[CORE].emulator, *CORES[CORE].arguments, program]).split())
    except ValueError:
        raise ToolFailed(f"{path} does not run on a Cortex-M4: it prints no two numbers") from None
    _, data, bss, *_ = run([f"{tools}-size", path]).splitlines()[1].split()
    return {"numbers": f"float32, {'FPU' if fpu else 'without FPU'}",
            "instructions": round(units * CORES[CORE].step / SHAPE["length"]), "ram": used + int(data) + int(bss)}


def table(rows: list[dict]) -> list[str]:
    ours = rows[-1]
    return ["| numbers | instructions a token | over the integers' | RAM, bytes | over the integers' |", "| --- " * 5 + "|",
            *(f"| {row['numbers']} | {row['instructions']:,} | {row['instructions'] / ours['instructions']:.1f} "
              f"| {row['ram']:,} | {row['ram'] / ours['ram']:.1f} |" for row in rows)]
