"""Features of radar frames: NumPy, C and a loop that follows their definition, value for value; a stream of frames."""

import ctypes
import subprocess
from math import isqrt

import numpy as np
import pytest
from programs import need

from boards.driver.radar import RadarStream
from emamba.artifact import load
from emamba.base.errors import InputError
from emamba.micro.project import Project
from emamba.sensors import points
from emamba.sensors.points import AXES, BOX, EDGES, FEATURES, MOST, NEAR, features, fixed

SOURCE = points.__file__.replace(".py", ".c")
RANDOM = np.random.default_rng(7)
HOSTILE = (-32768, -32767, -1, 0, 1, 32767, *(int(edge) + step for edge in EDGES for step in (-1, 0)),
           *(int(edge) * sign + step for edge in BOX for sign in (-1, 1) for step in (-1, 0, 1)))


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    need("cc")
    path = tmp_path_factory.mktemp("points") / "points.so"
    subprocess.run(["cc", "-std=c99", "-O2", "-Wall", "-Wextra", "-Wconversion", "-Werror", "-fsanitize=undefined",
                    "-fsanitize-undefined-trap-on-error", "-shared", "-fPIC", "-o", path, SOURCE], check=True)
    found = ctypes.CDLL(str(path))
    found.radar_fixed.argtypes, found.radar_fixed.restype = [ctypes.c_float], ctypes.c_int16
    return found


def in_c(library, frames):
    """Features of each of `frames`, by the C file."""
    found = np.full((len(frames), FEATURES), -1, np.int32)
    for frame, row in zip(frames, found, strict=True):
        library.radar_features(np.ascontiguousarray(frame).ctypes.data_as(ctypes.c_void_p), ctypes.c_long(len(frame)),
                               row.ctypes.data_as(ctypes.c_void_p))
    return found


def in_python(frame):
    """The definition, in Python's integers."""
    frame = [[max(-int(limit), min(int(limit), int(value))) for value, limit in zip(point, BOX, strict=True)]
             for point in frame[:MOST]]
    result = []
    for group in (lambda v: True, lambda v: v >= NEAR, lambda v: v <= -NEAR):
        chosen = [point for point in frame if group(point[3])]
        reciprocal = 65536 // len(chosen) if chosen else 0
        result.append(isqrt(256 * len(chosen)))
        for axis in range(AXES):
            mean = sum(point[axis] for point in chosen) * reciprocal + 32768 >> 16
            deviation = sum(abs(point[axis] - mean) for point in chosen) * reciprocal + 32768 >> 16
            result += [mean, isqrt(256 * deviation)]
    bins = [sum(point[3] >= edge for edge in EDGES) for point in frame]
    return result + [isqrt(256 * bins.count(k)) for k in range(len(EDGES) + 1)]


def random_frame(count):
    usual = RANDOM.integers(-400, 400, (count, AXES))
    return np.where(RANDOM.random((count, AXES)) < 0.3, RANDOM.choice(HOSTILE, (count, AXES)), usual).astype(np.int16)


FRAMES = [np.zeros((0, AXES), np.int16), np.zeros((1, AXES), np.int16), np.full((1, AXES), -32768, np.int16),
          *(np.full((MOST + extra, AXES), value, np.int16) for value in (-32768, 32767) for extra in (-1, 0, 1)),
          np.tile(np.array([[-32768] * AXES, [32767] * AXES], np.int16), (32, 1)),
          *(random_frame(count) for count in range(80)), *(random_frame(1) for _ in range(100))]


def test_c_and_numpy_follow_the_definition(library):
    found = features(np.concatenate(FRAMES), np.array([len(frame) for frame in FRAMES]))
    assert found.dtype == np.int32 and found.shape == (len(FRAMES), FEATURES)
    np.testing.assert_array_equal(found, [in_python(frame) for frame in FRAMES])
    np.testing.assert_array_equal(in_c(library, FRAMES), found)
    assert not found[0].any()
    for frame, row in zip(FRAMES, found, strict=True):
        np.testing.assert_array_equal(features(frame, np.array([len(frame)])), row[None])


def test_no_frames():
    assert features(np.zeros((0, AXES), np.int16), np.zeros(0, np.uint8)).shape == (0, FEATURES)


def test_order_of_points_does_not_matter():
    frame = random_frame(40)
    np.testing.assert_array_equal(features(frame[::-1].copy(), np.array([40])), features(frame, np.array([40])))


def test_fixed(library):
    values = np.concatenate([RANDOM.normal(0, 5, 500), RANDOM.integers(-5000, 5000, 500) / 128, [
        0.0, -0.0, 1e-40, 1e30, -1e30, np.inf, -np.inf, 512, -512, 511.992, 511.9844, -512.01, -511.9921875]]).astype(np.float32)
    found = fixed(values)
    assert found.dtype == np.int16 and found.tolist() == [library.radar_fixed(float(value)) for value in values]
    finite = values[np.abs(values) < 500]
    np.testing.assert_array_equal(fixed(finite), np.floor(finite.astype(np.float64) * 64 + 0.5))
    assert library.radar_fixed(float("nan")) == 0
    with pytest.raises(InputError, match=r"^a radar point has a value that is no number: leave the point out$"):
        fixed([1.0, np.nan])


@pytest.mark.parametrize("wrong, count, sentence", [
    (np.zeros((3, 3), np.int16), [3], r"^radar points have the shape \[3, 3\] and the type int16: give \[n, 4\] of int16"),
    (np.zeros((3, 4)), [3], r"^radar points have the shape \[3, 4\] and the type float64: give"),
    (np.zeros((3, 4), np.int16), [2], "^the numbers of points a frame do not add up to the 3 points that are there$"),
    (np.zeros((3, 4), np.int16), [4, -1], "^the numbers of points"),
    (np.zeros((3, 4), np.int16), [3.0], "^the numbers of points"),
])
def test_refusals(wrong, count, sentence):
    with pytest.raises(InputError, match=sentence):
        features(wrong, np.array(count))


def test_from_points_to_an_answer_in_c(tmp_path):
    """The C of a shipped model: its tokens are those of the driver's codec, its answer is the integer model's."""
    need("cc")
    artifact = load("models/radhar")
    frames = [fixed(RANDOM.normal(0, 2, (n, AXES))) for n in RANDOM.integers(0, 80, artifact.graph.length)]
    frames[:2] = [np.zeros((0, AXES), np.int16), np.full((65, AXES), -32768, np.int16)]
    whole = features(np.concatenate(frames), np.array([len(frame) for frame in frames]))
    tokens = artifact.codec.encode(whole[None], artifact.input)
    project = Project(artifact, tokens)
    project.write(tmp_path)
    subprocess.run(["cc", "-std=c99", "-O1", "-Wall", "-Wextra", "-Wconversion", "-pedantic", "-Werror", "-fsanitize=undefined",
                    "-fno-sanitize-recover", "-DMODEL_RADAR_FLOAT", "-shared", "-fPIC", "-o", "m.so", "src/model_radar.c",
                    "src/model.c"], cwd=tmp_path, check=True)
    library, memory = ctypes.CDLL(str(tmp_path / "m.so")), ctypes.create_string_buffer(project.source.ram)
    types = (np.dtype(project.source.nodes.types[node.name][:-2]) for node in (artifact.graph.input, artifact.graph.output))
    token, result = (np.zeros(width, kind) for width, kind in zip((FEATURES, artifact.graph.output.width), types, strict=True))
    library.model_radar_fixed.argtypes, library.model_radar_fixed.restype = [ctypes.c_float], ctypes.c_int16
    assert library.model_radar_fixed(-0.33) == fixed(-0.33) and library.model_init(memory) == 0
    codes = []
    for frame, wanted in zip(frames, tokens[0], strict=True):
        library.model_radar_token(frame.ctypes.data_as(ctypes.c_void_p), len(frame), token.ctypes.data_as(ctypes.c_void_p))
        np.testing.assert_array_equal(token, wanted)
        codes.append(library.model_push(memory, token.ctypes.data_as(ctypes.c_void_p), FEATURES))
    assert codes == [0] * (len(frames) - 1) + [1]
    assert library.model_read(memory, result.ctypes.data_as(ctypes.c_void_p), len(result)) == 0
    np.testing.assert_array_equal(result, project.answers[0, 0])


def test_stream():
    """An answer for each window of four frames, every second one; what it reads is what the loader gives."""
    frames, seen = [RANDOM.normal(0, 2, (n, AXES)) for n in (3, 0, 9, 70, 1, 5, 8)], []

    def predict(windows):
        seen.append(windows)
        return np.eye(3)[[[len(seen) % 2]]] * 1.5

    stream = RadarStream(predict, 4, every=2)
    assert stream.vote() is None
    answers = [stream.push(frame) for frame in frames]
    assert [answer is None for answer in answers] == [True, True, True, False, True, False, True]
    assert answers[3].tolist() == [0, 1.5, 0] and stream.vote() == 0 and stream.votes.tolist() == [1, 1, 0]
    whole = features(fixed(np.concatenate(frames)), np.array([len(frame) for frame in frames]))
    np.testing.assert_array_equal(np.concatenate(seen), [whole[0:4], whole[2:6]])
