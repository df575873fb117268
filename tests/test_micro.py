"""The C for microcontrollers is the integer model: random graphs of every operator under the sanitizers, shipped artifacts on
Cortex-M in qemu; its calls and their return codes; what is refused."""

import ctypes
import json
import re
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from programs import need
from test_windows import MODELS, SEQUENCE

import flow.build
from boards.describe import golden_frames
from emamba.artifact import load, of_length
from emamba.base.errors import DesignLimit, SettingError, ToolFailed, ToolMissing
from emamba.config import ModelConfig
from emamba.graph import build_graph
from emamba.micro.measure import CORES, measure
from emamba.micro.nodes import narrowest
from emamba.micro.project import Project
from emamba.micro.units import units
from emamba.ops import OPERATORS
from emamba.run.integer import IntegerModel
from sim.models import SHAPES, random_artifact, random_inputs

WARNINGS = ("-std=c99", "-pedantic", "-Wall", "-Wextra", "-Wconversion", "-Wshadow", "-Werror")
SANITIZERS = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-fsanitize-undefined-trap-on-error")
"""Undefined behaviour ends a program without a word: a third less to compile. Leave the last one out to be told where."""
INLINE = "-DINLINE=static inline"
SMALL, LARGE = ("-O0", INLINE), ("-O1", INLINE)
"""Less code, which compiles in a quarter of the time; and what is faster as a whole where a frame takes many instructions."""
GRAPHS = {
    **{name: shape for name, shape in SHAPES.items() if shape.get("length") != 1000},
    "same": MODELS["same"], "strided": MODELS["sequence"], "grid": MODELS["grid"], "both": MODELS["mamba2"],
    "backward": SEQUENCE | {"direction": "backward", "pool": "none", "form": "standard"},
    **{f"{name}, carried": SHAPES[name] | {"carried": True}
       for name in ("emamba-odd", "mamba2-norm-before", "pointwise-gated-pool", "emamba-one-token")},
}
SETTINGS = {
    "emamba-odd": {"weight_scale": "dyadic", "rounding": "half_even"},
    "emamba-three-blocks": {"residual_bits": 8, "input_term": "delta_b", "rule": "chord"},
    "emamba-image": {"input_term": "delta_b", "state_bits": 40, "hold": False},
    "standard-image": {"rule": "exact", "rounding": "truncate"},
    "standard-sequence": {"activation_bits": 12, "bits": {"block*.dt": 14}, "hold": False, "state_scale": "calibrated"},
    "standard-tokens": {"activation_bits": 6, "weight_bits": 5, "state_scale": "calibrated", "state_bits": 16},
    "mamba2-groups": {"activation_bits": 12, "bits": {"block*.dt": 14}, "state_scale": "calibrated"},
}
SHIPPED = sorted(path.parent.name for path in Path("models").glob("*/manifest.json"))
LONG, FIRST = 100, 32
"""Tokens from which sequences run for long, and so many of theirs."""
OK, READY, LENGTH, RANGE, STATE, NOTHING, ARGUMENT = 0, 1, -1, -2, -3, -4, -5


PACKED = "emamba-odd, carried", "emamba-three-blocks", "standard-image"
BLOCKED = "emamba-odd", "standard-image", "standard-sequence"
"""Graphs whose scans' states are packed, and whose tables of Ā are in blocks where they can be."""


def random_project(name: str, frames: int = 3) -> Project:
    artifact = random_artifact(ModelConfig(**GRAPHS[name]), **SETTINGS.get(name, {}))
    return Project(artifact, artifact.codec.encode(random_inputs(artifact.config, frames, seed=5), artifact.input))


def test_random_graphs_cover_every_operator():
    graphs = [build_graph(ModelConfig(**shape)) for shape in GRAPHS.values()]
    assert {node.kind for graph in graphs for node in graph} == set(OPERATORS)


@pytest.mark.parametrize("name", GRAPHS)
def test_random_graph(name, tmp_path, monkeypatch):
    """Without a warning and under the sanitizers, every frame's result is the integer model's; so it is on a Cortex-M4."""
    need("arm-none-eabi-gcc", "qemu-system-arm")
    monkeypatch.setattr("emamba.micro.nodes.PACKED_FROM", 1 if name in PACKED else 1 << 30)
    monkeypatch.setattr("emamba.micro.nodes.BLOCKED_FROM", 1 if name in BLOCKED else 1 << 30)
    project = random_project(name)
    assert len(np.unique(project.answers)) > 1
    for word, names in (("PACKED", PACKED), ("BLOCKED", BLOCKED)):
        assert any(words.get(word) == "1" for words in project.source.nodes.words.values()) == (name in names)
    project.write(tmp_path)
    sources = [f"-I{tmp_path / 'src'}", *(tmp_path / file for file in ("src/model.c", "test/selftest.c", "test/main.c"))]
    subprocess.run(["cc", *WARNINGS, *SANITIZERS, *SMALL, *sources, "-o", tmp_path / "selftest"], check=True)
    assert subprocess.run([tmp_path / "selftest"], check=True, capture_output=True, text=True).stdout == \
        "self-test of random: 3 frames equal the integer model\n"
    assert measure(tmp_path, "m4", project.source.ram, flags=SMALL).wrong == 0
    if name == "emamba-odd":
        answers = tmp_path / "test" / "selftest.c"
        answers.write_text(answers.read_text(encoding="utf-8").replace("UINT32_C(0x", "1 ^ UINT32_C(0x", 1), encoding="utf-8")
        subprocess.run(["cc", *sources, "-o", tmp_path / "selftest"], check=True)
        assert "frame 1 of 3 is wrong" in subprocess.run([tmp_path / "selftest"], capture_output=True, text=True).stdout
        assert [measure(tmp_path, core, project.source.ram, flags=SMALL).wrong for core in ("m4", "rv32")] == [1, 1]


@pytest.mark.slow
@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_artifact_on_every_target(name, tmp_path):
    """The golden frames. The code of the M4 runs on the M33 and the M55 too, which have its instructions."""
    need("arm-none-eabi-gcc", "qemu-system-arm", "riscv64-unknown-elf-gcc", "qemu-system-riscv32")
    artifact = load(Path("models") / name)
    if artifact.graph.length > LONG and not artifact.graph.pooled:  # of a model that answers each token, the first ones alone
        artifact = of_length(artifact, FIRST)
    project = Project(artifact, golden_frames(artifact))
    project.write(tmp_path)
    frames, plain = (1, LARGE) if project.multiplications > 1e6 else (None, SMALL)
    found = {core: measure(tmp_path, core, project.source.ram, frames, *more) for core, more in {
        "m4": (), "m33": ((), "m4"), "m55": ((), "m4"), "m0": (plain,), "rv32": (plain,)}.items()}
    assert set(found) == set(CORES)
    assert {(one.wrong, one.frames) for one in found.values()} == {(0, frames or len(project.frames))}
    assert max(found[core].stack for core in ("m4", "m33", "m55")) < 1024
    if name == "mars":
        assert found["m4"].instructions <= 2.5 * project.multiplications
        assert found["m4"].ram + found["m4"].stack <= 6000 and found["m4"].flash <= 40000


@pytest.mark.slow
@pytest.mark.parametrize("core", ["m0", "m33", "m55", "rv32"])
def test_optimized_for_a_core(core, tmp_path):
    """Without DSP instructions, with them, with Helium, on RISC-V: as they are shipped."""
    need("arm-none-eabi-gcc", "qemu-system-arm", "riscv64-unknown-elf-gcc", "qemu-system-riscv32")
    project = Project(artifact := load("models/mars_stream"), golden_frames(artifact))
    project.write(tmp_path)
    assert measure(tmp_path, core, project.source.ram).wrong == 0


def test_equal_nodes_are_not_merged(tmp_path):
    """GCC 12 lost the calls of the first of three norms, which it found equal to the third."""
    need("arm-none-eabi-gcc", "qemu-system-arm")
    artifact = random_artifact("emamba-three-blocks", 3)
    project = Project(artifact, artifact.codec.encode(random_inputs(artifact.config, 1, seed=3), artifact.input))
    bodies = [body.partition("{")[2].partition("\n}")[0] for body in project.source.code.split("static void node_")[1:]]
    assert len(set(bodies)) < len(bodies)
    project.write(tmp_path)
    assert measure(tmp_path, "m0", project.source.ram).wrong == 0


def test_a_stack_too_small_is_a_fault_of_the_linker(tmp_path, monkeypatch):
    need("arm-none-eabi-gcc", "qemu-system-arm")
    project = random_project("standard-one-channel")
    project.write(tmp_path)
    monkeypatch.setattr("emamba.micro.measure.STACK", 1 << 20)
    with pytest.raises(ToolFailed, match="the stack has less than STACK_SIZE bytes"):
        measure(tmp_path, "m0", project.source.ram)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(ToolMissing, match=r"arm-none-eabi-gcc, which is not on PATH; install it, e\.g\. apt-get install gcc-arm"):
        measure(tmp_path, "m0", project.source.ram)


class Library:
    """The C of a project as a shared object."""

    def __init__(self, project: Project, folder: Path):
        project.write(folder)
        command = ["cc", *WARNINGS, "-O1", "-shared", "-fPIC", folder / "src" / "model.c", "-o", folder / "model.so"]
        subprocess.run(command, check=True)
        self.c, source = ctypes.CDLL(str(folder / "model.so")), project.source
        graph, types = source.graph, source.nodes.types
        self.i, self.o = (np.dtype(types[node.name].removesuffix("_t")) for node in (graph.input, graph.output))
        self.output, self.state = graph.output.width, source.state
        self.memory = ctypes.create_string_buffer(source.ram)

    def push(self, token, count=None) -> int:
        token = np.ascontiguousarray(token, self.i)
        return self.c.model_push(self.memory, token.ctypes.data_as(ctypes.c_void_p), token.size if count is None else count)

    def read(self, count=None) -> tuple[int, list[int]]:
        result = np.zeros(self.output, self.o)
        code = self.c.model_read(self.memory, result.ctypes.data_as(ctypes.c_void_p), self.output if count is None else count)
        return code, result.tolist()

    def save(self) -> ctypes.Array:
        state = ctypes.create_string_buffer(self.state)
        assert self.c.model_save(self.memory, state, self.state) == OK
        return state


def test_calls(tmp_path):
    """Results token by token; a state that is saved in the middle; every return code."""
    project = random_project("mamba2-norm-before, carried", frames=2)
    lib, tokens, wanted = Library(project, tmp_path), project.frames.reshape(-1, 1), project.answers.reshape(-1, 7).tolist()
    assert lib.push(tokens[0]) == STATE and lib.read()[0] == STATE  # not begun
    assert lib.c.model_init(None) == lib.c.model_push(lib.memory, None, 1) == ARGUMENT
    assert lib.c.model_init(lib.memory) == OK and lib.read()[0] == NOTHING
    for token, answer in zip(tokens[:7], wanted, strict=False):
        assert lib.push(token) == READY and lib.read(6)[0] == LENGTH and lib.read() == (OK, answer) and lib.read()[0] == NOTHING
    assert lib.push(tokens[7], 2) == LENGTH and lib.push([project.artifact.input.max + 1]) == RANGE
    saved = lib.save()
    rest = [(lib.push(token), lib.read()) for token in tokens[7:]]
    assert rest == [(READY, (OK, answer)) for answer in wanted[7:]]
    assert lib.c.model_restore(lib.memory, saved, lib.state) == OK
    assert [(lib.push(token), lib.read()) for token in tokens[7:]] == rest
    assert lib.c.model_save(lib.memory, saved, lib.state - 1) == lib.c.model_restore(lib.memory, saved, 3) == LENGTH
    damaged = ctypes.create_string_buffer(saved.raw[:20] + bytes([saved.raw[20] ^ 1]) + saved.raw[21:], lib.state)
    other = ctypes.create_string_buffer(bytes([saved.raw[0] ^ 1]) + saved.raw[1:], lib.state)
    assert lib.c.model_restore(lib.memory, damaged, lib.state) == lib.c.model_restore(lib.memory, other, lib.state) == STATE


FORGED = r"""
#include <stdio.h>
#include <string.h>
#include "model.h"
static model m;
static uint8_t state[MODEL_STATE_BYTES], good[MODEL_STATE_BYTES];
static model_input token[MODEL_INPUT_WIDTH];
static model_output result[MODEL_OUTPUT_WIDTH];
static uint32_t seed = 1;
static uint32_t next(void) { return (seed = seed * 1664525u + 1013904223u) >> 8; }
static void run(uint32_t tokens) {
    while (tokens--) {
        for (uint32_t k = 0; k < MODEL_INPUT_WIDTH; k++)
            token[k] = (model_input)(MODEL_INPUT_MIN + (int)(next() % (MODEL_INPUT_MAX - MODEL_INPUT_MIN + 1)));
        for (int code = model_push(&m, token, MODEL_INPUT_WIDTH); code == MODEL_READY;)
            code = model_read(&m, result, MODEL_OUTPUT_WIDTH);
    }
}
static int restore(void) {
    uint32_t check = 2166136261u;
    for (uint32_t k = 0; k < MODEL_STATE_BYTES - 8; k++)
        check = (check ^ state[k]) * 16777619u;
    memcpy(state + MODEL_STATE_BYTES - 8, &check, 4);
    return model_restore(&m, state, MODEL_STATE_BYTES);
}
int main(void) {
    int taken = 0, refused = 0;
    (void)model_init(&m);
    for (uint32_t turn = 0; turn < TURNS; turn++) {
        run(next() % MODEL_TOKENS);
        (void)model_save(&m, good, sizeof good);
        memcpy(state, good, sizeof state);
        if (restore() != MODEL_OK)
            return 1;
        for (uint32_t k = 0; k <= turn % 3; k++) {
            const uint32_t from = turn % 4 ? 4 : 0, at = from + next() % (MODEL_STATE_BYTES - 8 - from);
            state[at] = (uint8_t)(turn & 1 ? 127 + next() % 2 : next());
        }
        if (restore() == MODEL_OK)
            taken++, run(2 * MODEL_TOKENS);
        else
            refused++;
    }
    for (uint32_t k = 1; k < 4; k++) { /* position, ready, next */
        memcpy(state, good, sizeof state);
        memset(state + 4 * k, 0x7F, 4);
        if (restore() != MODEL_STATE)
            return 2;
    }
    printf("%d %d\n", taken, refused);
    return 0;
}
"""


@pytest.mark.parametrize("name, turns", [("emamba-image", 400), ("mamba2-norm-before, carried", 400), ("both", 100)])
def test_forged_states(name, turns, tmp_path):
    """With a right checksum: every one is refused, or does no harm."""
    random_project(name).write(tmp_path)
    (tmp_path / "forged.c").write_text(FORGED, encoding="utf-8")
    subprocess.run(["cc", "-std=c99", *SANITIZERS, *SMALL, f"-DTURNS={turns}", f"-I{tmp_path / 'src'}", tmp_path / "forged.c",
                    tmp_path / "src/model.c", "-o", tmp_path / "forged"], check=True)
    taken, refused = map(int, subprocess.run([tmp_path / "forged"], check=True, capture_output=True, text=True).stdout.split())
    assert taken > turns / 10 and refused > turns / 10


def test_shared_object_without_python(tmp_path):
    """The example in C gives the integer model's answer to zeros."""
    project = random_project("standard-one-channel")
    project.write(tmp_path)
    include, library = f"-I{tmp_path / 'src'}", tmp_path / "libemamba_model.so"
    subprocess.run(["cc", *WARNINGS, "-O1", "-shared", "-fPIC", include, tmp_path / "src/model.c", "-o", library], check=True)
    subprocess.run(["cc", *WARNINGS, include, tmp_path / "examples/host.c", library, "-o", tmp_path / "host"], check=True)
    said = subprocess.run([tmp_path / "host"], check=True, capture_output=True, text=True).stdout
    wanted = IntegerModel(project.artifact).answer(np.zeros_like(project.frames[:1]))
    assert [int(line) for line in said.split()] == wanted[0, 0].tolist()


def test_calls_of_whole_sequences(tmp_path):
    project = random_project("backward", frames=2)
    lib, frame, wanted = Library(project, tmp_path), project.frames[1], project.answers[1].tolist()
    assert lib.c.model_init(lib.memory) == OK
    assert [lib.push(token) for token in frame] == [OK] * 10 + [READY]
    assert [lib.read() for _ in wanted] == [(READY, row) for row in wanted[:-1]] + [(OK, wanted[-1])]
    i, o = np.ascontiguousarray(frame, lib.i), np.zeros((11, 2), lib.o)
    arguments = i.ctypes.data_as(ctypes.c_void_p), i.size, o.ctypes.data_as(ctypes.c_void_p)
    assert lib.c.model_run(lib.memory, *arguments, o.size - 1) == LENGTH
    assert lib.c.model_run(lib.memory, *arguments, o.size) == OK and o.tolist() == wanted
    assert lib.push(frame[0]) == OK and lib.c.model_run(lib.memory, *arguments, o.size) == LENGTH


def test_two_models_in_one_program(tmp_path):
    """With prefixes; and the files that are built with them."""
    projects = {"one": random_project("standard-one-channel"), "two_b": random_project("emamba-odd")}
    calls, wanted = [], []
    for prefix, project in projects.items():
        project.write(tmp_path / prefix, prefix=prefix)
        upper, frame = prefix.upper(), ", ".join(map(str, project.frames[1].reshape(-1)))
        calls.append(f"{{ static {prefix} m; static const {prefix}_input i[] = {{{frame}}};"
                     f"{prefix}_output o[{upper}_OUTPUT_WIDTH];"
                     f"if ({prefix}_init(&m) || {prefix}_run(&m, i, sizeof i / sizeof *i, o, {upper}_OUTPUT_WIDTH)) return 1;"
                     f'for (int k = 0; k < {upper}_OUTPUT_WIDTH; k++) printf("%d ", (int)o[k]); }}')
        wanted += project.answers[1].reshape(-1).tolist()
        subprocess.run(["cc", *SMALL, f"-I{tmp_path / prefix / 'src'}", *(tmp_path / prefix / file for file in (
            f"src/{prefix}.c", "test/selftest.c", "test/main.c")), "-o", tmp_path / prefix / "selftest"], check=True)
        assert subprocess.run([tmp_path / prefix / "selftest"]).returncode == 0
        texts = {path: path.read_text(encoding="utf-8") for path in (tmp_path / prefix).rglob("*.*") if path.is_file()}
        assert not [path for path, text in texts.items() if re.search(r"\bmodel_|\bMODEL_|model\.[hc]|emamba_model", text)]
    program = tmp_path / "main.c"
    program.write_text('#include <stdio.h>\n#include "one.h"\n#include "two_b.h"\nint main(void) {' + "\n".join(calls) + "}\n",
                       encoding="utf-8")
    folders = [tmp_path / prefix / "src" for prefix in projects]
    subprocess.run(["cc", *WARNINGS, *SMALL, *(f"-I{folder}" for folder in folders), program,
                    *(folder / f"{folder.parent.name}.c" for folder in folders), "-o", tmp_path / "main"], check=True)
    said = subprocess.run([tmp_path / "main"], check=True, capture_output=True, text=True).stdout
    assert list(map(int, said.split())) == wanted
    for prefix in ("int", "A", "2x", "", "x-y"):
        with pytest.raises(SettingError, match=f"the prefix '{prefix}' cannot begin names of C"):
            project.write(tmp_path / "none", prefix=prefix)


def test_refusals(monkeypatch, tmp_path):
    project = random_project("standard-one-channel")
    monkeypatch.setattr("emamba.ops.lookup.Lookup.source", None)
    with pytest.raises(DesignLimit, match=r"^node 'embed': there is no C of the operator Lookup, so no C of this artifact: give"):
        random_project("standard-tokens")
    monkeypatch.setattr("emamba.micro.nodes.LARGEST_TABLE", 10)
    with pytest.raises(DesignLimit, match=r"a table of the function has \d+ entries; a microcontroller's C has at most 10: use"):
        Project(project.artifact, project.frames)
    with pytest.raises(DesignLimit, match="a number reaches 64 bits; at most 63 are possible"):
        narrowest(0, 1 << 63)
    assert [narrowest(*ends) for ends in ((0, 200), (-1, 200), (0, 1 << 15), (0, 1 << 16), (-(1 << 40), 0))] == [
        "uint8_t", "int16_t", "uint16_t", "int32_t", "int64_t"]


@pytest.fixture
def build(tmp_path, monkeypatch):
    """Builds MARS without a measurement, with these arguments."""
    monkeypatch.setattr("emamba.micro.measure.shutil.which", lambda command: None)
    return lambda *arguments: flow.build.main(["c", "--artifact", "models/mars", "--out", str(tmp_path / "out"), *arguments])


def test_target(tmp_path, capsys, build):
    assert build() == 0
    out = tmp_path / "out"
    report = json.loads((out / "report.json").read_text(encoding="utf-8"))
    said = capsys.readouterr().out
    assert "237,620 multiplications a frame" in said
    assert "nothing was measured: the measurement needs" in said and report["measured"] is None
    assert {path.name for path in out.iterdir()} == {"src", "test", "examples", "bare-metal", "zephyr", "CMakeLists.txt",
                                                    "README.md", "library.json", "library.properties", "report.json", "serial",
                                                    "accelerator.json"}
    assert json.loads((out / "library.json").read_text(encoding="utf-8"))["build"]["srcDir"] == "src"
    readme = (out / "README.md").read_text(encoding="utf-8")
    assert f"| memory (`sizeof(model)`), bytes | {report['ram_bytes']} |" in readme
    assert "An output integer y stands for offset + scale · y · 2^" in readme and "model_sound" not in readme
    for option, value in (("--cycles-per-token", "4"), ("--factor-bits", "18"), ("--fill", "0.5")):
        assert build(option, value) == 1
        assert f"{option} is of hardware; the target c has no such choice" in capsys.readouterr().err
    assert build("--prefix", "kws") == 0 and {path.name for path in (out / "src").iterdir()} == {"kws.h", "kws.c"}
    assert flow.build.main(["verilog", "--prefix", "kws"]) == 1
    assert "--prefix is of the target c, not of verilog" in capsys.readouterr().err


def test_units_of_the_readme():
    """The formulas give the codec's integers and values; classes have their names."""
    artifact = random_artifact("standard-sequence")
    width = artifact.graph.input.width
    artifact = replace(artifact, codec=replace(artifact.codec, mean=np.arange(width) / 3, std=np.arange(width) + 0.1))
    names = [f"c|{k}" for k in range(artifact.graph.output.width)]
    text = units(replace(artifact, record={"classes": names}))
    rows = [line.strip("| ").split(" | ") for line in text.splitlines() if re.match(r"\| (\d+|each) \|", line)]
    given, answers = rows[:-len(names)], rows[-len(names):]
    assert [row[-1] for row in answers] == [name.replace("|", "\\|") for name in names]
    assert [[float(value) for value in row[1:3]] for row in answers] == [[*pair] for pair in zip(
        artifact.codec.scale, artifact.codec.offset, strict=True)]
    assert f"· 2^{artifact.input.frac} + 0.5), clipped to {artifact.input.min} … {artifact.input.max}" in text
    assert [[float(value) for value in row[1:]] for row in given] == [[*pair] for pair in zip(
        artifact.codec.mean, artifact.codec.std, strict=True)]
