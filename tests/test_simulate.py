"""`emamba simulate`: recorded streams against integer model and schedule, the waveform against the recording."""

import json
import re
from collections import defaultdict

import numpy as np
import pytest
from vcd.reader import TokenKind, tokenize

from emamba.artifact import save
from emamba.config import ModelConfig
from emamba.run.integer import IntegerModel
from flow import cli
from rtl.kit import packing
from rtl.plan.schedule import Schedule
from sim.models import random_artifact, random_inputs
from sim.recorder import record
from sim.waveform import write_gtkw, write_vcd

SEQUENCES = 3
TINY = ModelConfig(input="sequence", features=2, length=3, d_model=3, d_state=2, dt_rank=1, blocks=1, task="regression",
                   outputs=2)


@pytest.fixture(scope="module")
def recorded():
    artifact = random_artifact(TINY)
    tokens = artifact.codec.encode(random_inputs(artifact.config, SEQUENCES), artifact.input)
    schedule = Schedule(artifact, 12)
    return artifact, tokens, schedule, record(schedule, tokens, 10_000)


def test_streams_are_the_integer_model_at_the_cycles_of_the_schedule(recorded):
    artifact, tokens, schedule, recording = recorded
    values = IntegerModel(artifact).run(tokens)
    for name, block in schedule.blocks.items():
        _, beats = recording.transfers(f"{name}.o")
        got = packing.unpack(block.output, beats)
        np.testing.assert_array_equal(got, values[name].reshape(got.shape), err_msg=name)
        for port in block.inputs:
            cycles, _ = recording.transfers(f"{name}.{port}")
            assert len(cycles) % SEQUENCES == 0 and len(cycles) > 0
    entered, (left, _) = recording.transfers("i")[0], recording.transfers("o")
    assert (left - entered[0]).tolist() == schedule.timetable(SEQUENCES)
    assert recording.cycles == left[-1] + 1


def test_stalls(recorded):
    """Every cycle is of one kind, and the bins add up."""
    recording = recorded[3]
    found = recording.stalls(bins=7)
    assert len(found["edges"]) == 8 and found["edges"][-1] == found["cycles"] == recording.cycles
    for stream in found["streams"]:
        kinds = [stream[kind] for kind in ("transfer", "starved", "blocked")]
        assert sum(kinds) == recording.cycles and kinds == [sum(bins) for bins in stream["bins"].values()]
        assert np.array_equal(np.sum(list(stream["bins"].values()), axis=0), np.diff(found["edges"]))
        assert stream["transfer"] == len(recording.transfers(stream["name"])[0])
    assert found["streams"][-1]["blocked"] == 0


def test_waveform_is_the_recording(recorded, tmp_path):
    """Each signal read back from the file, at the rising edges of its clock."""
    _, _, _, recording = recorded
    write_vcd(recording, tmp_path / "w.vcd")
    write_gtkw(recording, tmp_path / "w.gtkw")
    scope, names, values, seen, now = [], {}, {}, defaultdict(list), 0
    with (tmp_path / "w.vcd").open("rb") as file:
        for token in tokenize(file):
            if token.kind is TokenKind.SCOPE:
                scope.append(token.scope.ident)
            elif token.kind is TokenKind.UPSCOPE:
                scope.pop()
            elif token.kind is TokenKind.VAR:
                names[token.var.id_code] = ".".join([*scope, token.var.reference])
            elif token.kind is TokenKind.CHANGE_TIME:
                if now % 10 == 0 and values:
                    for name, value in values.items():
                        seen[name].append(value)
                now = token.time_change
            elif token.kind in (TokenKind.CHANGE_SCALAR, TokenKind.CHANGE_VECTOR):
                change = token.data
                values[names[change.id_code]] = int(change.value, 2) if isinstance(change.value, str) else change.value
    assert seen["accelerator.cycle"] == list(range(recording.cycles)) and set(seen["accelerator.clk"]) == {1}
    for k, (name, port) in enumerate(recording.streams.items()):
        *node, leaf = name.split(".")
        at = ".".join(["accelerator", *(["_".join(node)] if node else []), leaf])
        assert seen[f"{at}.valid"] == recording.valid[:, k].tolist() and seen[f"{at}.ready"] == recording.ready[:, k].tolist()
        parts = [(f"payload_{lane}", port.format.bits) for lane in range(port.lanes)] + [("first", 1), ("last", 1)]
        beats, low = np.zeros(recording.cycles, object), 0
        for part, bits in parts:
            beats += np.array(seen[f"{at}.{part}"], object) << low
            low += bits
        assert beats.tolist() == [row[k] for row in recording.payload]
    shown = re.findall(r"^accelerator\.\S+$", (tmp_path / "w.gtkw").read_text(), re.MULTILINE)
    assert sorted(re.sub(r"\[.*", "", name) for name in shown) == sorted(names.values())


def test_command(recorded, tmp_path, capsys):
    artifact = recorded[0]
    save(artifact, tmp_path / "a")
    np.save(tmp_path / "x.npy", random_inputs(artifact.config, SEQUENCES))
    asked = ["simulate", str(tmp_path / "a"), "--inputs", str(tmp_path / "x.npy"), "--cycles-per-token", "12"]
    out, beats = tmp_path / "out", 2 * recorded[2].output.beats
    assert cli.main([*asked, "--vcd", str(out / "w.vcd"), "--json", str(out / "s.json")]) == 0
    text, error = capsys.readouterr()
    assert error == "" and f"\n{beats} of {beats} output beats of 2 sequences came out (x.npy, given split, no targets)," in text
    assert sorted(path.name for path in out.iterdir()) == ["s.json", "w.gtkw", "w.vcd"]
    found = json.loads((out / "s.json").read_text())
    assert found["beats"] == {"expected": beats, "left": beats, "different": 0}
    assert [stream["name"] for stream in found["streams"]] == list(recorded[3].streams)
    assert cli.main([*asked, "--cycles", "160", "--stall-percent", "60", "--json", str(out / "s.json")]) == 0
    assert f"of {beats} output beats of 2 sequences came out" in (text := capsys.readouterr().out) and "--cycles ended it" in text
    found = json.loads((out / "s.json").read_text())
    assert found["cycles"] == 160 and found["beats"]["left"] == beats // 2 and found["beats"]["different"] == 0
    assert found["streams"][-1]["blocked"] > 0


@pytest.mark.parametrize("more, sentence", [
    (["--vcd", "w.fst"], "--vcd w.fst: name a file that ends with .vcd"),
    (["--cycles", "0"], "--cycles must be at least 1, not 0"),
    (["--stall-percent", "100"], "--stall-percent must lie in 0..99, not 100"),
    (["--cycles-per-token", "1"], "random at 1 cycles a token has 206 multipliers; at most 10 are simulated here: give more "
     "--cycles-per-token"),
])
def test_refusals(recorded, tmp_path, capsys, monkeypatch, more, sentence):
    monkeypatch.setattr("sim.recorder.MOST_MULTIPLIERS", 10)
    save(recorded[0], tmp_path / "a")
    np.save(tmp_path / "x.npy", random_inputs(recorded[0].config, 1))
    assert cli.main(["simulate", str(tmp_path / "a"), "--inputs", str(tmp_path / "x.npy"), *more]) == 1
    assert capsys.readouterr() == ("", f"emamba: {sentence}\n")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "x.npy"]
