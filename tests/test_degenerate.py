"""Channels, rows, tensors and data that are degenerate: every node is within one step of its output format of the float model's
node at the same inputs, or a refusal names the node and what helps."""

import re

import numpy as np
import pytest
from degenerate import KINDS, SMALL, kind_of, quantized, tokens_of, weights_of, worst

from emamba.base.errors import EmambaError
from emamba.base.formats import IntFormat
from emamba.config import ModelConfig, QuantizeConfig
from emamba.datasets.metrics import figures
from emamba.ops import Add, RangeNorm
from emamba.ops.scales import SCALES, best_frac
from emamba.run.compiled import IntegerLoop
from emamba.run.integer import IntegerModel
from flow.report.collect import _span
from rtl.kit import packing
from rtl.plan.cost import estimate
from rtl.plan.schedule import Schedule
from sim.recorder import record

POWERS = [*(10.0**-k for k in range(13)), 0.0]
FORMS = {form: ModelConfig(**SMALL | {"form": form}) for form in ("standard", "emamba")}
BASE = {form: weights_of(config) for form, config in FORMS.items()}
TENSORS = ("embed.weight", "embed.bias", "blocks.0.x.weight", "blocks.0.z.weight", "blocks.0.conv.weight", "blocks.0.conv.bias",
           "blocks.0.dt_low.weight", "blocks.0.dt.weight", "blocks.0.dt.bias", "blocks.0.B.weight", "blocks.0.C.weight",
           "blocks.0.A_log", "blocks.0.D", "blocks.0.out.weight", "norm.weight", "head.weight", "head.bias")
each_mode = pytest.mark.parametrize("mode", SCALES)
each_form = pytest.mark.parametrize("form", FORMS)


def scaled(name: str, value: np.ndarray, factor: np.ndarray | float) -> np.ndarray:
    """What the tensor stands for times `factor`: A is −exp(A_log)."""
    return value + np.log(np.maximum(factor, 1e-40)) if name.endswith("A_log") else value * factor


def one_hot(value: np.ndarray) -> np.ndarray:
    result = np.zeros(value.shape)
    result.flat[value.size // 2] = 1
    return result


CHANGES = {f"{factor:g}": lambda name, value, factor=factor: scaled(name, value, factor)
           for factor in (1e-3, 1e-7, 1e-12, 0.0, 1e6, 1e12)}
CHANGES |= {"constant": lambda name, value: np.full(value.shape, 0.37), "one-hot": lambda name, value: one_hot(value)}
HUGE = "node 'block0.y': channel … needs a scale of 2^…, out of range 2^−60..2^60: rescale the data or the weights"
FAR = "node 'block0.residual': a step of 'block0.out' is 2^… lower the bits of 'embed' by the setting bits, or rescale …"


def pattern(sentence: str) -> str:
    return f"^{re.escape(sentence).replace('…', '.*')}$"


# -- one product ----------------------------------------------------------------------------------------------------------------


@each_mode
@pytest.mark.parametrize("with_bias", [False, True])
def test_weights_and_bias_of_one_product(mode, with_bias):
    """Every tensor × 10^−k, and every row; constant, one-hot and huge ones: the integers are the real product within half a step
    of the output, and what half a step of the weights makes of it."""
    rng, i, bits = np.random.default_rng(0), IntFormat(8, True, 5), 8
    x = rng.integers(-128, 128, (40, 6))
    weight, bias = rng.normal(0, 0.4, (14, 6)), rng.normal(0, 0.5, 14) * with_bias
    tensors = [weight * factor for factor in (*POWERS, 1e6, 1e12)]
    tensors += [weight * np.array(POWERS)[:, None], np.full_like(weight, 0.3), np.eye(14, 6)]
    for w in tensors:
        want = (x * i.step) @ w.T + bias
        o = IntFormat(12, True, best_frac(want, 12))
        made = SCALES[mode](w, bias, bits, i, o, silent=not w.any())
        got = ((x @ made["weight"].T + made["bias"]) * made["multiplier"]) * 2.0 ** -made["shift"]  # in steps of the output
        own = np.abs(w).max(1) if mode == "dyadic" else np.abs(w).max()
        rounded = np.abs(x).sum(1)[:, None] * i.step * own * (0.6 if mode == "dyadic" else 1.2) / 127
        assert (np.abs(got * o.step - want) <= 0.52 * o.step + rounded).all()
        assert made["multiplier"].min() >= 1 and abs(made["bias"]).max() < 1 << 31 and abs(made["weight"]).max() <= 127


def test_a_pruned_class_keeps_its_bias():
    """A row that is far below the others had the multiplier 1 and a bias for another."""
    for factor in (1e-4, 0.0):
        rows = np.where(np.arange(14) == 1, factor, 1)[:, None]
        weights = BASE["emamba"] | {"head.weight": BASE["emamba"]["head.weight"] * rows, "head.bias": np.full(14, 0.5),
                                    "norm.bias": np.zeros(7)}
        head = quantized(FORMS["emamba"], weights, weight_scale="dyadic").operators["head"]
        zero = head(np.zeros((1, 1, 7), np.int64))[0, 0] * head.o.step
        assert abs(zero - 0.5).max() <= head.o.step


def test_a_bias_that_closes_a_channel_costs_the_others_nothing():
    """A unit of δ that ReLU holds at 0 for good."""
    bias = BASE["emamba"]["blocks.0.dt.bias"].copy()
    bias[3] = -1e12
    for mode in SCALES:
        artifact = quantized(FORMS["emamba"], BASE["emamba"] | {"blocks.0.dt.bias": bias}, weight_scale=mode)
        assert max(worst(artifact, tokens_of(FORMS["emamba"])).values()) <= 1
        assert len(np.unique(artifact.operators["block0.dt"].weight)) > 10


# -- whole models ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form, mode", [("standard", "dyadic"), ("emamba", "power_of_two")])
def test_rows(form, mode):
    """Each row of a tensor times another 10^−k."""
    config, base = FORMS[form], BASE[form]
    for name in TENSORS:
        value = base[name]
        factors = np.resize(POWERS, len(value)).reshape(-1, *[1] * (value.ndim - 1))
        found = worst(quantized(config, base | {name: scaled(name, value, factors)}, weight_scale=mode), tokens_of(config))
        assert max(found.values()) <= 1, (name, found)


@pytest.mark.parametrize("change", CHANGES)
def test_tensors(change):
    """Half of the tensors changed as a whole; tensors, forms and scale modes take turns."""
    turn, cases = list(CHANGES).index(change), [(form, mode) for form in FORMS for mode in SCALES]
    for k, name in enumerate(TENSORS[turn % 2::2]):
        form, mode = cases[(k + turn // 2) % 4]
        config, base = FORMS[form], BASE[form]
        try:
            artifact = quantized(config, base | {name: CHANGES[change](name, base[name])}, weight_scale=mode)
        except EmambaError as error:
            assert change.startswith("1e+") and any(re.match(pattern(text), str(error)) for text in (HUGE, FAR)), (name, error)
            continue
        found = worst(artifact, tokens_of(config))
        assert max(found.values()) <= 1, (name, found)


@pytest.mark.parametrize("data, norm", [
    ("zeros", "range"), ("zeros", "rms"), ("constant", "range"), ("constant", "layer"), ("one sequence", "none"),
    ("an unused channel", "range"), ("1e-6", "range"), ("1e-6", "layer"), ("1e6", "rms"), ("1e6", "none")])
def test_calibration_data(data, norm):
    config = ModelConfig(**SMALL | {"norm": norm, "length": 1 if data == "one sequence" else 5})
    tokens = tokens_of(config)
    match data:
        case "zeros" | "1e-6" | "1e6":
            tokens = tokens * {"zeros": 0}.get(data) if data == "zeros" else tokens * float(data)
        case "constant":
            tokens = np.full_like(tokens, 0.7)
        case "one sequence":
            tokens = tokens[:1]
        case _:
            tokens[..., 1] = 0
    base = weights_of(config)
    if norm == "none" and data == "1e6":
        with pytest.raises(EmambaError, match=pattern(HUGE)):
            quantized(config, base, tokens)
    else:
        assert max(worst(quantized(config, base, tokens), tokens).values()) <= 1


# -- slow and dead branches -----------------------------------------------------------------------------------------------------

@each_form
@pytest.mark.parametrize("kind", KINDS)
def test_slow_and_dead_branches_are_taken(kind, form):
    """Every node's value, the certificate, a schedule and its cost."""
    config, weights = kind_of(kind, form)
    artifact = quantized(config, weights, weight_scale=list(SCALES)[len(kind) % 2])
    assert max(worst(artifact, tokens_of(config)).values()) <= 1
    assert artifact.record["certificate"]["block0.y"]["holds"]
    assert estimate(Schedule(artifact, 20), "xcup")["lut"] > 0


@pytest.mark.parametrize("settings", [
    {"rule": "exact"}, {"rule": "least_squares"}, {"rule": "chord"}, {"input_term": "delta_b"}, {"rounding": "truncate"},
    {"activation_bits": 10}, {"state_bits": 40}], ids=str)
def test_slow_dynamics_with_settings(settings):
    """A chord may be 3 % off."""
    config, weights = kind_of("slow", "standard")
    artifact = quantized(config, weights, **settings)
    assert artifact.operators["block0.dt"].o.frac >= 16
    assert worst(artifact, tokens_of(config))["block0.dt"] <= (4.5 if settings.get("rule") == "chord" else 1)


@pytest.mark.parametrize("kind, form", [("x_proj", "emamba"), ("slow", "standard")])
def test_the_compiled_loop_computes_them_too(kind, form):
    config, weights = kind_of(kind, form)
    artifact = quantized(config, weights)
    integers = artifact.codec.encode(tokens_of(config, 12), artifact.input)
    np.testing.assert_array_equal(IntegerLoop(artifact).run(integers), IntegerModel(artifact).answer(integers))


def test_the_hardware_computes_them_too():
    """Every stream of a design with slow δ, B of zeros and a pruned output, in Amaranth's simulator."""
    config, weights = kind_of("slow", "standard", length=2, d_state=1, d_conv=1)
    weights |= {"blocks.0.B.weight": 0.0 * weights["blocks.0.B.weight"], "head.weight": weights["head.weight"] * np.eye(2)[:, :1]}
    artifact = quantized(config, weights, weight_scale="dyadic")
    tokens = artifact.codec.encode(tokens_of(config, 2), artifact.input)
    schedule, values = Schedule(artifact, 12), IntegerModel(artifact).run(tokens)
    recording = record(schedule, tokens, 10_000)
    for name, block in schedule.blocks.items():
        got = packing.unpack(block.output, recording.transfers(f"{name}.o")[1])
        np.testing.assert_array_equal(got, values[name].reshape(got.shape), err_msg=name)


# -- refusals -------------------------------------------------------------------------------------------------------------------

REFUSED = {
    "tiny": ({"embed.weight": 1e-20, "embed.bias": 1e-20}, {},
             "node 'embed': channel … needs a scale of 2^-…, out of range 2^−60..2^60: rescale the data or the weights"),
    "huge": ({"embed.weight": 1e30}, {}, "node 'embed': channel … needs a scale of 2^…"),
    "overflow": ({"embed.weight": 1e200, "head.weight": 1e200, "blocks.0.out.weight": 1e250}, {"norm": "none"},
                 "node 'block0.…': channel … is not finite on the calibration data: rescale the data or the weights"),
    "no decay": ({"blocks.0.A_log": 1e4}, {}, "node 'block0.y': channel … is not finite on the calibration data: …"),
    "B and C far apart": ({"blocks.0.B.weight": 1e13, "blocks.0.C.weight": 1e-13}, {}, None),
    "an epsilon beside nothing": ({"embed.weight": 1e-13, "embed.bias": 1e-13}, {"norm": "rms"},
                                  "node 'block0.norm': a norm's sum of squares can reach … bits; at most 62 are possible: use "
                                  "narrower formats, such as fewer bits of 'embed' by the setting bits"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refusals_name_the_node_and_what_helps(case):
    factors, changes, sentence = REFUSED[case]
    config = ModelConfig(**SMALL | changes)
    weights = weights_of(config)
    weights |= {name: weights[name] * factor for name, factor in factors.items()}
    if sentence is None:
        assert max(worst(quantized(config, weights), tokens_of(config)).values()) <= 1
        return
    with pytest.raises(EmambaError, match=pattern(sentence)) as error:
        quantized(config, weights)
    named = re.findall(r"the setting (\w+)|raise (\w+)", str(error.value))
    assert all("".join(pair) in QuantizeConfig.model_fields for pair in named)


@pytest.mark.parametrize("make", [
    lambda: Add(channels=1, a=IntFormat(12, True, 60), b=IntFormat(12, True, 8), o=IntFormat(12, True, 8)),
    lambda: RangeNorm(channels=4, i=IntFormat(50, True, 0), o=IntFormat(8, True, 7)),
])
def test_sums_that_64_bits_do_not_hold_are_refused(make):
    with pytest.raises(EmambaError, match=r"can reach \d+ bits; at most 62 are possible: use narrower formats"):
        make()


# -- figures --------------------------------------------------------------------------------------------------------------------

ONES = np.ones((4, 3))


@pytest.mark.parametrize("arguments, sentence", [
    *((("regression", ONES, 2 * ONES, scale), f"the data set's unit_scale is {scale}: it must be finite and above 0")
      for scale in (0.0, -1.0, float("nan"), float("inf"))),
    (("regression", ONES[:, :1], ONES), "predictions of the shape [4, 1] have no figure beside targets of the shape [4, 3]: …"),
    (("classification", ONES, np.zeros((4, 1), int)), "predictions of the shape [4, 3] have no figure beside targets of …"),
    (("classification", ONES[:0], np.zeros(0, int)), "predictions of the shape [0, 3] have no figure beside targets of …"),
    (("classification", ONES, np.arange(4)), "targets of 0 to 3 are not all among the model's 3 outputs: …"),
    (("classification", ONES * np.nan, np.zeros(4, int)), "the prediction at [0, 0] is not finite, so there is no figure: …"),
])
def test_figures_that_would_lie_are_refused(arguments, sentence):
    with pytest.raises(EmambaError, match=pattern(sentence)):
        figures(*arguments)


@pytest.mark.parametrize("values", [[0.0, 0.0], [1.0, 1.0 + 2e-16], [1e17, 1e17], [0.0, 5e-324], [-1e30, 1e30]])
def test_histograms_of_values_that_are_alike(values):
    assert np.histogram(values, 48, _span(np.array(values)))[0].sum() == 2
