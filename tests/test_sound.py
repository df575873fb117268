"""The front end of sounds: NumPy against C bit for bit and against floating point, streams in pieces, every bad description."""

import ctypes
import re
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from programs import need

from boards.driver.sound import SoundStream
from emamba import artifact as artifacts
from emamba.base.errors import EmambaError, InputError
from emamba.micro import sensor
from emamba.micro.source import Source
from emamba.sensors.sound import FRAME, STEPS, LogMel, fixed
from sim.small import artifact_of

RANDOM = np.random.default_rng(0)
SHAPES = [LogMel.of_seconds(rate, bands, FRAME)
          for rate, bands in ((1000, 1), (8000, 16), (16000, 40), (22050, 128), (200000, 64))]
SHAPES += [LogMel(16000, 20, 2, 3), LogMel(16000, 20, 3, 1), LogMel(8000, 13, 256, 300)]


def signals(count: int) -> list[np.ndarray]:
    """Of every loudness, the extremes among them."""
    noise = RANDOM.normal(size=count)
    return [*(fixed(loudness * noise) for loudness in (2, 0.1, 1e-3, 2e-5)), np.zeros(count, np.int16),
            np.full(count, -1 << 15, np.int16), np.resize(np.array([(1 << 15) - 1, -1 << 15], np.int16), count)]


@pytest.mark.parametrize("front_end", SHAPES, ids=str)
def test_c_and_floating_point(front_end, tmp_path):
    need("gcc")
    (tmp_path / "sound.c").write_text(front_end.c_source())
    subprocess.run(["gcc", "-std=c99", "-O1", "-Wall", "-Wextra", "-Wconversion", "-pedantic", "-Werror", "-shared", "-fPIC",
                    "-fsanitize=undefined", "-fno-sanitize-recover", "-o", "sound.so", "sound.c"], cwd=tmp_path, check=True)
    library = ctypes.CDLL(str(tmp_path / "sound.so"))
    room = np.zeros(2 * front_end.points, np.int32)
    for samples in signals(2 * front_end.frame + front_end.hop):
        found = front_end.features(samples)
        assert found.shape == (front_end.frames(len(samples)), front_end.bands) and found.dtype == np.int32
        for k, row in enumerate(found):
            frame = samples[k * front_end.hop:][:front_end.frame].copy()
            features = np.zeros(front_end.bands, np.int32)
            library.sound_features(*(array.ctypes.data_as(ctypes.c_void_p) for array in (frame, features, room)))
            np.testing.assert_array_equal(features, row)
        exact = front_end.reference(samples)
        error = abs(found - exact)[exact > exact.max() - 20 * STEPS]  # bands within 60 dB of the loudest
        assert error.max() < STEPS / 8 and (error.size < 8 or np.median(error) < 4)


@pytest.mark.parametrize("front_end", SHAPES[1:], ids=str)
def test_stream_in_pieces(front_end):
    """Whatever the pieces, windows are those of the whole sound."""
    samples, seen = fixed(RANDOM.normal(0, 0.1, 9 * front_end.frame + 20 * front_end.hop)), []

    def predict(windows):
        seen.append(windows[0])
        return np.eye(2)[[[0]]]

    stream, place, answers = SoundStream(predict, front_end, 4, every=2), 0, 0
    while place < len(samples):
        piece = int(RANDOM.integers(0, 3 * front_end.hop))
        answers += len(stream.push(samples[place:place + piece]))
        place += piece
    whole = front_end.features(samples)
    assert answers == len(seen) == (len(whole) - 4) // 2 + 1 and stream.vote() == 0
    for k, window in enumerate(seen):
        np.testing.assert_array_equal(window, whole[2 * k:2 * k + 4])


@pytest.mark.parametrize("fields, sentence", [
    ([], "^a front end is a table of kind, which is 'log_mel', rate, bands, frame, hop$"),
    ({"kind": "mfcc", "rate": 8000, "bands": 8, "frame": 200, "hop": 80}, "^a front end is a table of kind"),
    ({"kind": "log_mel", "rate": 8000, "bands": 8, "frame": 200}, "^a front end is a table of kind"),
    ({"kind": "log_mel", "rate": 999, "bands": 8, "frame": 200, "hop": 80}, r"has rate = 999; it must lie in 1000\.\.200000$"),
    ({"kind": "log_mel", "rate": 8000, "bands": 8.0, "frame": 200, "hop": 80}, r"has bands = 8\.0; it must lie in 1\.\.128$"),
    ({"kind": "log_mel", "rate": 8000, "bands": 8, "frame": 10001, "hop": 80}, r"has frame = 10001; it must lie in 2\.\.10000$"),
    ({"kind": "log_mel", "rate": 8000, "bands": 8, "frame": 200, "hop": True}, r"has hop = True; it must lie in 1\.\.200000$"),
])
def test_refusals(fields, sentence):
    with pytest.raises(InputError, match=sentence):
        LogMel.of(fields)


def test_other_samples_are_refused():
    with pytest.raises(InputError, match=r"^samples of a sound are an array \[n\] of int16, not float64 \[3\]: take `fixed`$"):
        SHAPES[1].features(np.zeros(3))


def test_an_artifact_keeps_it(tmp_path):
    artifact = replace(artifact_of(), data={"name": "words", "split": "own", "front_end": SHAPES[1].fields})
    artifacts.save(artifact, tmp_path / "a")
    assert artifacts.load(tmp_path / "a").front_end == SHAPES[1]
    damaged = replace(artifact, data=artifact.data | {"front_end": SHAPES[1].fields | {"hop": 0}})
    with pytest.raises(EmambaError, match=r"has hop = 0; it must lie in 1\.\.200000"):
        artifacts.save(damaged, tmp_path / "b")
    assert not (tmp_path / "b").exists()


def test_the_page_of_sounds(capsys):
    """Of 198 frames, the last one of 98 is the first that gives an answer, and every tenth one after it."""
    example, = re.findall(r"^```python\n(.*?)^```$", Path("docs/sound.md").read_text(encoding="utf-8"), re.M | re.S)
    exec(compile(example, "sound.md", "exec"), {})
    loudest = capsys.readouterr().out.split()
    assert len(loudest) == (198 - 98) // 10 + 1 and len(set(loudest)) == 1


def test_tokens_in_c(tmp_path):
    """From samples to the integers that a model reads, as the driver's float codec gives them."""
    need("gcc")
    front_end, artifact = SHAPES[1], artifact_of(features=16)
    mean, std = RANDOM.uniform(7000, 12000, 16), RANDOM.uniform(50, 3000, 16)
    artifact = replace(artifact, codec=replace(artifact.codec, mean=mean, std=std), data={"front_end": front_end.fields})
    for name, text in sensor.files(artifact).items():
        (tmp_path / Path(name).name).write_text(text)
    (tmp_path / "model.h").write_text(Source(artifact).header)
    subprocess.run(["gcc", "-std=c99", "-O1", "-Wall", "-Wextra", "-Wconversion", "-pedantic", "-Werror", "-shared", "-fPIC",
                    "-fsanitize=undefined", "-fno-sanitize-recover", "-o", "sound.so", "model_sound.c"], cwd=tmp_path, check=True)
    library, room = ctypes.CDLL(str(tmp_path / "sound.so")), np.zeros(2 * front_end.points, np.int32)
    kind = {8: np.int8, 16: np.int16}[max(8, 1 << (artifact.input.bits - 1).bit_length())]
    for samples in signals(front_end.frame):
        token = np.zeros(16, kind)
        library.model_sound_token(*(array.ctypes.data_as(ctypes.c_void_p) for array in (samples, token, room)))
        wanted = artifact.codec.encode(front_end.features(samples)[None], artifact.input)[0, 0]
        np.testing.assert_array_equal(token, wanted)


def test_another_width_is_refused():
    with pytest.raises(EmambaError, match=r"^the front end has 16 bands, and the model reads 3 values a token: leave it out of"):
        sensor.files(replace(artifact_of(features=3), data={"front_end": SHAPES[1].fields}))
    assert sensor.files(artifact_of()) == {}
