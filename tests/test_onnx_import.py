"""ONNX in: a round trip changes no integer, other ways to write a model mean the same, and all else is refused by its name."""

import re
import sys
import warnings

import numpy as np
import onnx
import onnx.inliner
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from test_onnx import OTHERS, artifact_of, exported
from torch import nn
from torch.nn import functional as F

from emamba.artifact import load
from emamba.base.errors import EmambaError
from emamba.config import QuantizeConfig
from emamba.datasets.tokens import executor_tokens
from emamba.onnx.importer import read_onnx
from emamba.quantization.quantize import quantize, read_checkpoint
from emamba.run.integer import IntegerModel, answers
from emamba.run.reference import Reference
from flow import cli
from sim.models import SHAPES, random_artifact, random_inputs

FLOAT, INT = TensorProto.FLOAT, TensorProto.INT64
RNG = np.random.default_rng(0)


def refuses(sentence: str):
    return pytest.raises(EmambaError, match=f"^{re.escape(sentence).replace('…', '.*')}$")


class Made:
    """An ONNX model that is written operator by operator; the last one's value is the output."""

    def __init__(self, shape=("batch", 6, 4), kind=FLOAT, opset: int = 27):
        self.nodes, self.constants, self.shape, self.kind, self.opset = [], [], shape, kind, opset

    def __call__(self, op: str, *inputs, outputs: int = 1, **attributes):
        names = [value if isinstance(value, str) else self.constant(value) for value in inputs]
        made = [f"v{len(self.nodes)}" if k == 0 else f"v{len(self.nodes)}_{k}" for k in range(outputs)]
        self.nodes.append(helper.make_node(op, names, made, name=f"n{len(self.nodes)}", **attributes))
        return made[0] if outputs == 1 else made

    def constant(self, value) -> str:
        value = np.asarray(value)
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(value.astype(np.float32) if value.dtype.kind == "f" else value, name))
        return name

    def model(self) -> onnx.ModelProto:
        given = helper.make_tensor_value_info("x", self.kind, self.shape)
        result = onnx.ValueInfoProto(name=self.nodes[-1].output[0])
        graph = helper.make_graph(self.nodes, "made", [given], [result], self.constants)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", self.opset)])

    def write(self, path):
        onnx.save(self.model(), path)
        return path


def normal(*shape) -> np.ndarray:
    return RNG.normal(size=shape)


def values(imported, x: np.ndarray) -> np.ndarray:
    y = imported.codec.values(Reference(imported.graph, imported.weights).answer(imported.codec.standardize(x)))
    return y[:, 0] if imported.graph.pooled else y


# -- a round trip -------------------------------------------------------------------------------------------------------------


def described(graph) -> list:
    return [(node.name, node.kind, node.inputs, node.width, node.tokens, node.role, node.order, node.norm, set(node.parameters),
             dict(node.attributes)) for node in graph]


@pytest.mark.parametrize("name", [*list(SHAPES)[::2], *OTHERS, "mars", "mars_rms"])
def test_round_trip(name, tmp_path):
    """The same graph, floats to 1e-7 and the same integers."""
    artifact = artifact_of(name)
    onnx.save(exported(artifact), tmp_path / "m.onnx")
    found = read_onnx(tmp_path / "m.onnx")
    x = random_inputs(artifact.config, 4, 9)
    exact = values(artifact, x)
    np.testing.assert_allclose(values(found, x), exact, rtol=0, atol=1e-7 * np.abs(exact).max())
    if name not in ("standard-image", "mamba2-limits"):  # a branch that is added to nothing, a Scan for heads of one channel
        assert described(found.graph) == described(artifact.graph) and found.config.task == artifact.config.task
        tokens, settings = random_inputs(artifact.config, 16), QuantizeConfig()
        ours = quantize("a", artifact.config, artifact.weights, artifact.codec, tokens, settings, graph=artifact.graph)
        theirs = quantize("a", found.config, found.weights, found.codec, tokens, settings, graph=found.graph)
        assert all(ours.operators[key] == theirs.operators[key] for key in ours.operators)
        integers = ours.codec.encode(x, ours.input)
        np.testing.assert_array_equal(IntegerModel(theirs).answer(integers), IntegerModel(ours).answer(integers))


def expanded(model: onnx.ModelProto) -> onnx.ModelProto:
    """With the operators that ONNX itself defines LinearAttention and CausalConvWithState by."""
    whole, out = onnx.ModelProto(), onnx.ModelProto()
    whole.CopyFrom(model)
    out.CopyFrom(model)
    whole.graph.value_info.extend(helper.make_tensor_value_info(constant.name, constant.data_type, constant.dims)
                                  for constant in whole.graph.initializer)
    known = onnx.shape_inference.infer_shapes(whole).graph
    types = {value.name: value.type.SerializeToString() for value in (*known.value_info, *known.input)}
    for k, node in enumerate(out.graph.node):
        if node.op_type in ("LinearAttention", "CausalConvWithState"):
            schema = onnx.defs.get_schema(node.op_type, 27)
            function = onnx.FunctionProto.FromString(schema.get_context_dependent_function(
                node.SerializeToString(), [types.get(name, b"") for name in node.input]))
            function.domain, function.name = "local", f"F{k}"
            function.ClearField("attribute")
            out.functions.append(function)
            node.domain, node.op_type = "local", function.name
            node.ClearField("attribute")
    out.opset_import.append(helper.make_opsetid("local", 1))
    return onnx.inliner.inline_local_functions(out)


@pytest.mark.parametrize("name", ["emamba-odd", "standard-one-channel", "mamba2-groups", "mamba2-one-head"])
def test_expanded(name, tmp_path):
    artifact = artifact_of(name)
    model = expanded(exported(artifact))
    assert {"Scan", "Conv"} <= {node.op_type for node in model.graph.node}
    onnx.save(model, tmp_path / "m.onnx")
    found, x = read_onnx(tmp_path / "m.onnx"), random_inputs(artifact.config, 3)
    np.testing.assert_array_equal(values(found, x), values(artifact, x))
    loop = next(node for node in model.graph.node if node.op_type == "Scan")
    next(node for node in loop.attribute[1].g.node if node.op_type == "Exp").op_type = "Sigmoid"
    onnx.save(model, tmp_path / "m.onnx")
    with refuses(f"{tmp_path}/m.onnx: node '…' (Scan): a loop is not read, but for that of LinearAttention with the rule 'gated'"
                 ": write a recurrence over the tokens as LinearAttention (opset 27)"):
        read_onnx(tmp_path / "m.onnx")


# -- other ways to write the same ---------------------------------------------------------------------------------------------


def heads(m, x, wide: bool):
    """LinearAttention of three heads; B and C repeated by Expand, or by Tile."""
    u = m("MatMul", x, normal(4, 3))
    dt = m("Softplus", m("MatMul", x, normal(4, 3)))
    B, C = (m("MatMul", x, normal(4, 2)) for _ in "BC")

    def repeated(v):
        if not wide:
            return m("Tile", v, np.array([1, 1, 3]))
        m4 = m("Expand", m("Unsqueeze", v, np.array([2])), np.array([1, 1, 3, 2]))
        return m("Reshape", m4, np.array([0, 0, 6]))

    decay = m("Mul", m("Unsqueeze", dt, np.array([3])), -np.exp(normal(3, 2)))
    y = m("LinearAttention", repeated(C), repeated(B), m("Mul", u, dt), "", m("Reshape", decay, np.array([0, 0, -1])), outputs=2,
          q_num_heads=3, kv_num_heads=3, update_rule="gated", **({} if wide else {"scale": 1.0}))[0]
    return m("Add", m("Mul", normal(3), u), y)


def turned(m, x):
    return m("Transpose", x, perm=[0, 2, 1])


def standardized(m, x):
    return m("Div", m("Sub", x, normal(4)), np.abs(normal(4)) + 0.1)


def read_by_two(m, n):
    return m("Mul", m("MatMul", n, normal(4, 3)), m("Softplus", m("MatMul", n, normal(4, 3))))


def keys_with_delta(m, x):
    """Keys δ·B of two heads with three channels each."""
    u, dt = m("MatMul", x, normal(4, 6)), m("Softplus", m("MatMul", x, normal(4, 2)))
    B, C = (m("MatMul", x, normal(4, 3)) for _ in "BC")
    key = m("Mul", m("Unsqueeze", dt, np.array([3])), m("Unsqueeze", B, np.array([2])))
    return m("LinearAttention", m("Tile", C, np.array([1, 1, 2])), m("Reshape", key, np.array([0, 0, 6])), u, "",
             m("Mul", dt, -np.exp(normal(2))), outputs=2, q_num_heads=2, kv_num_heads=2, update_rule="gated", scale=1.0)[0]


def root_mean_square(m, x):
    return m("Sqrt", m("Add", m("ReduceMean", m("Mul", x, x), np.array([-1])), np.array(1e-5)))


def centred(m, x):
    return m("Sub", x, m("ReduceMean", x, np.array([-1])))


def layer_norm(m, x):
    c = centred(m, x)
    variance = m("ReduceMean", m("Pow", c, np.array(2.0)), np.array([-1]))
    return m("Div", c, m("Sqrt", m("Add", variance, np.array(1e-5))))


def heads_side_by_side(m, x):
    a, b = m("Split", m("MatMul", x, normal(4, 10)), np.array([3, 7]), axis=-1, outputs=2)
    return m("MatMul", m("Concat", a, m("Softplus", b), axis=-1), normal(10, 2))


FORMS = {
    "rms by division": lambda m, x: m("Mul", m("Div", x, root_mean_square(m, x)), normal(4)),
    "rms by reciprocal": lambda m, x: m("Mul", normal(4), m("Mul", m("Reciprocal", root_mean_square(m, x)), x)),
    "layer norm": lambda m, x: m("Add", m("Mul", layer_norm(m, x), normal(4)), normal(4)),
    "range norm": lambda m, x: m("Div", centred(m, x), m("Sub", m("ReduceMax", x, np.array([-1])),
                                                         m("ReduceMin", x, np.array([-1])))),
    "softplus by log": lambda m, x: m("Log", m("Add", np.array(1.0), m("Exp", x))),
    "sigmoid": lambda m, x: (lambda s: m("Add", m("Mul", s, m("Softplus", x)), s))(m("Sigmoid", x)),
    "silu": lambda m, x: m("Mul", m("Sigmoid", x), x),
    "norm read by a sum": lambda m, x: m("Add", x, m("LayerNormalization", x, normal(4), normal(4), axis=-1)),
    "norm read by two": lambda m, x: read_by_two(m, m("RMSNormalization", x, normal(4), axis=2)),
    "scale before a sum": lambda m, x: m("Add", m("Mul", x, normal(4)), m("Softplus", x)),
    "product of scales": lambda m, x: m("MatMul", m("Mul", m("Mul", m("Softplus", x), normal(4)), x), normal(4, 2)),
    "difference": lambda m, x: m("Sub", m("MatMul", x, normal(4, 4)), m("Softplus", x)),
    "batch norm": lambda m, x: turned(m, m("BatchNormalization", m("Conv", turned(m, x), normal(5, 4, 1)), normal(5), normal(5),
                                           normal(5), np.abs(normal(5)) + 0.1)),
    "gemm": lambda m, x: m("Gemm", m("Squeeze", m("ReduceMean", x, np.array([1])), np.array([1])), normal(3, 4), normal(3),
                           transB=1, alpha=0.5, beta=2.0),
    "rows of tokens": lambda m, x: m("Reshape", m("Gemm", m("Reshape", x, np.array([-1, 4])), normal(4, 3), normal(3)),
                                     np.array([-1, 6, 3])),
    "weights first": lambda m, x: turned(m, m("MatMul", normal(3, 4), turned(m, x))),
    "pads, then a cut": lambda m, x: turned(m, m("Slice", m("Conv", turned(m, x), normal(4, 1, 3), group=4, pads=[2, 2]),
                                                 np.array([0]), np.array([-2]), np.array([2]))),
    "pads by Pad": lambda m, x: turned(m, m("Conv", m("Pad", turned(m, x), np.array([0, 0, 2, 0, 0, 0])),
                                                normal(4, 1, 3), normal(4), group=4)),
    "strided": lambda m, x: turned(m, m("Conv", turned(m, x), normal(5, 4, 3), normal(5), strides=[2], pads=[1, 0])),
    "centred and dilated": lambda m, x: turned(m, m("Conv", turned(m, x), normal(4, 1, 3), group=4, dilations=[2], pads=[2, 2])),
    "average of tokens": lambda m, x: turned(m, m("AveragePool", turned(m, x), kernel_shape=[2], strides=[2])),
    "a grid of tokens": lambda m, x: turned(m, m("Reshape", m("Conv", m("Reshape", turned(m, x), np.array([0, 0, 2, 3])), normal(
        3, 4, 2, 2), pads=[1, 1, 0, 1]), np.array([0, 0, -1]))),
    "dilated": lambda m, x: turned(m, m("Conv", turned(m, x), normal(4, 1, 2), group=4, dilations=[3], pads=[3, 0])),
    "split and concatenation": heads_side_by_side,
    "channels chosen": lambda m, x: m("Softplus", m("Gather", m("MatMul", x, normal(4, 5)), np.array([4, 0, 2]), axis=2)),
    "last token": lambda m, x: m("Gather", m("MatMul", x, normal(4, 3)), np.array(-1), axis=1),
    "pool of channels first": lambda m, x: m("Flatten", m("GlobalAveragePool", turned(m, x))),
    "backwards": lambda m, x: m("Slice", x, np.array([-1]), np.array([-(1 << 63)]), np.array([1]), np.array([-1])),
    "linear attention": lambda m, x: heads(m, x, False),
    "linear attention by Expand": lambda m, x: heads(m, x, True),
    "linear attention by keys": keys_with_delta,
    "attention": lambda m, x: m("Attention", x, m("MatMul", x, normal(4, 4)), x, q_num_heads=2, kv_num_heads=2, is_causal=1,
                                scale=0.3),
    "own codec": lambda m, x: m("Add", m("Mul", m("Add", m("MatMul", standardized(m, x), normal(4, 2)), normal(2)), normal(2)),
                                normal(2)),
}


@pytest.mark.parametrize("name", FORMS)
def test_other_forms(name, tmp_path):
    made = Made()
    FORMS[name](made, "x")
    found = read_onnx(made.write(tmp_path / "m.onnx"))
    x = normal(3, 6, 4)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    session = onnxruntime.InferenceSession(str(tmp_path / "m.onnx"), options, providers=["CPUExecutionProvider"])
    expected = session.run(None, {"x": x.astype(np.float32)})[0]
    np.testing.assert_allclose(values(found, x), expected, rtol=1e-4, atol=1e-5)


class Block(nn.Module):
    """As people write one: its norm by hand, its convolution cut, its halves by chunk."""

    def __init__(self):
        super().__init__()
        self.embed, self.into, self.out = nn.Linear(3, 8), nn.Linear(8, 24, bias=False), nn.Linear(12, 8)
        self.conv, self.point, self.batch = nn.Conv1d(12, 12, 4, groups=12, padding=3), nn.Conv1d(8, 8, 1), nn.BatchNorm1d(8)
        self.weight, self.last, self.head = nn.Parameter(torch.rand(8) + 0.5), nn.LayerNorm(8), nn.Linear(8, 5)
        self.batch.running_mean.normal_()
        self.batch.running_var.uniform_(0.5, 2)

    def forward(self, x):
        x = self.embed(x)
        normed = x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6) * self.weight
        u, z = self.into(normed).chunk(2, -1)
        u = F.silu(self.conv(u.transpose(1, 2))[..., :x.shape[1]].transpose(1, 2))
        x = x + self.out(u * F.silu(z))
        x = x + self.batch(self.point(x.transpose(1, 2))).transpose(1, 2)
        return self.head(self.last(x).mean(1))


def test_a_module_that_torch_exports(tmp_path):
    torch.manual_seed(0)
    module, x = Block().eval(), torch.randn(2, 7, 3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(module, (x,), tmp_path / "m.onnx", dynamo=False, dynamic_axes={"x": {0: "n"}}, input_names=["x"])
    found = read_onnx(tmp_path / "m.onnx")
    np.testing.assert_allclose(values(found, x.numpy()), module(x).detach().numpy(), atol=1e-6)
    assert found.notes[0].endswith("16 nodes: 2 Activation, 2 Add, 1 Conv1d, 1 Input, 1 LayerNorm, 6 Linear, 1 Multiply, 1 Pool, "
                                   "1 RMSNorm")
    assert [node.name for node in found.graph][1:4] == ["embed.Add", "Mul", "Slice"]


class Attends(nn.Module):
    """Attention by hand, or by torch's function."""

    def __init__(self, causal: bool, by_hand: bool):
        super().__init__()
        self.all, self.out, self.causal, self.by_hand = nn.Linear(8, 24), nn.Linear(8, 8), causal, by_hand

    def forward(self, x):
        batch, length, width = x.shape
        q, k, v = (part.reshape(batch, length, 2, 4).transpose(1, 2) for part in self.all(x).chunk(3, -1))
        if self.by_hand:
            shares = q @ k.transpose(-2, -1) * 0.3
            if self.causal:
                later = torch.triu(torch.ones(length, length, dtype=torch.bool), 1)
                shares = shares.masked_fill(later, float("-inf"))
            y = shares.softmax(-1) @ v
        else:
            y = F.scaled_dot_product_attention(q, k, v, is_causal=self.causal)
        return self.out(y.transpose(1, 2).reshape(batch, length, width))


@pytest.mark.parametrize("by_hand", [False, True])
@pytest.mark.parametrize("causal", [False, True])
def test_attention_that_torch_exports(causal, by_hand, tmp_path):
    torch.manual_seed(0)
    module, x = Attends(causal, by_hand).eval(), torch.randn(2, 5, 8)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(module, (x,), tmp_path / "m.onnx", dynamo=False, dynamic_axes={"x": {0: "n"}}, input_names=["x"])
    found = read_onnx(tmp_path / "m.onnx")
    np.testing.assert_allclose(values(found, x.numpy()), module(x).detach().numpy(), atol=1e-6)
    assert found.notes[0].endswith("6 nodes: 1 Attention, 1 Input, 4 Linear")


class Pictures(nn.Module):
    """A stem with batch norm, a depthwise convolution, merged pixels, an average."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 6, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(6)
        self.depthwise, self.merge = nn.Conv2d(6, 6, 5, padding=2, groups=6), nn.Conv2d(6, 8, 2, stride=2)
        self.head = nn.Linear(8, 3)
        self.b.running_mean.normal_()
        self.b.running_var.uniform_(0.5, 2)

    def forward(self, x):
        x = torch.relu(self.b(self.a(x)))
        x = F.avg_pool2d(self.merge(x + F.silu(self.depthwise(x))), 2)
        return self.head(x.flatten(2).transpose(1, 2).mean(1))


def test_pictures_that_torch_exports(tmp_path):
    """Pixels are the tokens, row by row."""
    torch.manual_seed(0)
    module, x = Pictures().eval(), torch.randn(2, 3, 16, 20)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(module, (x,), tmp_path / "m.onnx", dynamo=False, dynamic_axes={"x": {0: "n"}}, input_names=["x"])
    found = read_onnx(tmp_path / "m.onnx", task="classification")
    pictures = x.numpy().transpose(0, 2, 3, 1)
    np.testing.assert_allclose(values(found, executor_tokens(pictures, found.config)), module(x).detach().numpy(), atol=1e-6)
    assert found.config.image == (16, 20, 3) and found.notes[0].endswith(
        "13 nodes: 1 Activation, 1 Add, 2 Depthwise, 1 Input, 3 Linear, 1 Pool, 4 Window")


# -- refusals -----------------------------------------------------------------------------------------------------------------

REFUSED = {
    "node 'n0' (Tanh): no operator of this project computes it": lambda m, x: m("Tanh", x),
    "node 'n0' (Softmax): it is read in attention alone, of the products of queries and keys": lambda m, x: m("Softmax", x),
    "node 'n0' (Loop): a loop is not read: write a recurrence over the tokens as LinearAttention (opset 27)":
        lambda m, x: m("Loop", x),
    "node 'n0' (Gather): it takes single tokens: a recurrence that was unrolled over the tokens is not read; write it as "
    "LinearAttention (opset 27)": lambda m, x: m("Gather", x, np.array(2), axis=1),
    "node 'n0' (Relu): it follows the kind Input; only a Linear takes a Relu in": lambda m, x: m("Relu", x),
    "node 'n0' (Add): a constant of the shape [6, 4] differs from token to token, and no operator adds or multiplies such":
        lambda m, x: m("Add", x, normal(6, 4)),
    "node 'n0' (MatMul): its weight of [3, 5] does not fit 4 channels": lambda m, x: m("MatMul", x, normal(5, 3)),
    "node 'n1' (MatMul): it is no product of channels with a constant matrix": lambda m, x: m("MatMul", x, turned(m, x)),
    "node 'n1' (Add): it reads the result of Exp, which is no operator of this project alone":
        lambda m, x: m("Add", x, m("Exp", x)),
    "node 'n1' (Conv): its weight of [4, 2, 3] in 2 groups for 4 channels is neither dense nor one filter for each channel":
        lambda m, x: m("Conv", turned(m, x), normal(4, 2, 3), group=2),
    "node 'n1' (Conv): its border of 3 zeros on the left is not narrower than its kernel of 3":
        lambda m, x: m("Conv", turned(m, x), normal(4, 4, 3), pads=[3, 3]),
    "node 'n1' (Conv): its kernel reaches over 5001 tokens; at most 4096 are possible":
        lambda m, x: m("Conv", turned(m, x), normal(4, 4, 2), dilations=[5000]),
    "node 'n1' (AveragePool): it divides by other numbers at the border":
        lambda m, x: m("AveragePool", turned(m, x), kernel_shape=[3], pads=[1, 1]),
    "node 'n0' (MatMul): it mixes tokens by constants, and not as a filter y ← y + (x − y)/2^k":
        lambda m, x: m("MatMul", normal(6, 6), x),
    "node 'n0' (LinearAttention): its rule is delta with 2 heads of queries for 2; 'gated' with as many is read":
        lambda m, x: m("LinearAttention", x, x, x, "", x, outputs=2, q_num_heads=2, kv_num_heads=2, update_rule="delta"),
    "node 'n0' (Flatten): it makes […, 24] of […, 6, 4], the axes B, L, C: tokens, channels and sequences are joined only where "
    "one of them is 1": lambda m, x: m("Flatten", x),
    "node 'n0' (ReduceMean): it reduces the axes C; the mean of all tokens is read, and what norms do with channels, with "
    "keepdims = 1": lambda m, x: m("ReduceMean", x, np.array([2]), keepdims=0),
    "node 'n0' (Transpose): its inputs or attributes are not those of a Transpose (IndexError)":
        lambda m, x: m("Transpose", x, perm=[0, 5, 1]),
    "node 'n0' (Softplus): nothing before it gives its input 'y'": lambda m, x: m("Softplus", "y"),
    "its output has the axes B, C, L; [batch, tokens, outputs] and [batch, outputs] are read": turned,
    "its output 'v0' is not computed from its input by operators that are read": lambda m, x: m("Exp", normal(3)),
}


@pytest.mark.parametrize("sentence", REFUSED, ids=lambda sentence: sentence[:40])
def test_refused_operators(sentence, tmp_path):
    made = Made()
    REFUSED[sentence](made, "x")
    with refuses(f"{tmp_path}/m.onnx: {sentence}"):
        read_onnx(made.write(tmp_path / "m.onnx"))


def test_delta_that_may_be_negative(tmp_path):
    for other, sentence in ((True, "node 'n4' (LinearAttention): the δ of its values is not that of its decays"),
                            (False, "node 'input': a scan takes it as δ, but its values, of the kind Input, may be negative; a "
                             "Softplus or a Relu must give them")):
        made = Made()
        B = made("MatMul", "x", normal(4, 4))
        values, delta = made("Mul", "x", B), made("Softplus", "x") if other else "x"
        made("LinearAttention", B, B, values, "", made("Mul", delta, -np.ones(4)), outputs=2, q_num_heads=4, kv_num_heads=4,
             update_rule="gated")
        with refuses(f"{tmp_path}/m.onnx: {sentence}"):
            read_onnx(made.write(tmp_path / "m.onnx"))


def changed(change, **settings):
    made = Made(**settings)
    made("MatMul", "x", normal(4, 3))
    model = made.model()
    change(model)
    return model


def external(model):
    model.graph.initializer[0].data_location = TensorProto.EXTERNAL
    model.graph.initializer[0].external_data.add(key="location", value="../secret")


FILES = {
    "its tensor 'c0': is in another file, which is not read: save the model as one, by onnx.save(onnx.load(path), path)":
        external,
    "its opset is 28; 9 to 27 are read: export it with one of these": lambda m: setattr(m.opset_import[0], "version", 28),
    "its graph has no node: it is no ONNX model, or an empty one": lambda m: m.graph.ClearField("node"),
    "it has 2 outputs (v0, v0); exactly one is possible: leave the others out":
        lambda m: m.graph.output.append(m.graph.output[0]),
    "its tensor 'c0': has the type INT8; only floating-point numbers, int64, int32 and bool are read: export the model before it "
    "was quantized": lambda m: setattr(m.graph.initializer[0], "data_type", TensorProto.INT8),
    "its tensor 'c0': has the shape [1000000000, 3]; at most 268435456 values are read":
        lambda m: m.graph.initializer[0].dims.__setitem__(0, 10**9),
    "its tensor 'c0': is damaged (ValueError): export the model again": lambda m: m.graph.initializer[0].dims.__setitem__(0, 5),
    "its tensor 'c0': holds values that are no numbers: train again":
        lambda m: m.graph.initializer[0].CopyFrom(numpy_helper.from_array(np.full((4, 3), np.nan, np.float32), "c0")),
    "its input 'x': has 2 axes; token ids [batch, tokens], numbers [batch, tokens, features] and pictures [batch, channels, "
    "rows, columns] are read":
        lambda m: m.graph.input[0].type.tensor_type.shape.dim.pop(),
    "its input 'x': does not say how many tokens a sequence has: give --length, or --calibration":
        lambda m: m.graph.input[0].type.tensor_type.shape.dim[1].ClearField("dim_value"),
    "node 'n0' (com.microsoft.MatMul): no operator of this project computes it":
        lambda m: setattr(m.graph.node[0], "domain", "com.microsoft"),
}


@pytest.mark.parametrize("sentence", FILES, ids=lambda sentence: sentence[:40])
def test_refused_files(sentence, tmp_path):
    (tmp_path / "m.onnx").write_bytes(changed(FILES[sentence]).SerializeToString())
    with refuses(f"{tmp_path}/m.onnx: {sentence}"):
        read_onnx(tmp_path / "m.onnx")


def test_mutated_files(tmp_path):
    """Each is read, or refused by one sentence."""
    content = exported(random_artifact("standard-rms-norm")).SerializeToString()
    rng, refused = np.random.default_rng(0), 0
    for _ in range(150):
        mutated = np.frombuffer(content, np.uint8).copy()
        places = rng.integers(0, len(mutated), rng.integers(1, 8))
        mutated[places] = rng.integers(0, 256, len(places))
        (tmp_path / "m.onnx").write_bytes(mutated.tobytes()[:rng.integers(1, len(mutated)) if rng.random() < 0.2 else None])
        try:
            read_onnx(tmp_path / "m.onnx")
        except EmambaError as error:
            assert "\n" not in str(error)
            refused += 1
    assert refused > 50


# -- the commands -------------------------------------------------------------------------------------------------------------


def run(capsys, *arguments, sentence: str | None = None) -> str:
    status = cli.main([str(word) for word in arguments])
    out, err = capsys.readouterr()
    assert (status, err) == ((0, "") if sentence is None else (1, f"emamba: {sentence}\n"))
    return out


def test_import(tmp_path, capsys):
    """To a checkpoint that is quantized later, and to an artifact at once: the same integers, and the file's own graph."""
    artifact = random_artifact("emamba-odd")
    onnx.save(exported(artifact), tmp_path / "m.onnx")
    x = random_inputs(artifact.config, 20)
    np.save(tmp_path / "x.npy", x)
    told = run(capsys, "import", tmp_path / "m.onnx", "--calibration", tmp_path / "x.npy", "--out", tmp_path / "a")
    assert told.startswith("ONNX: 58 operators became 18 nodes: ")
    run(capsys, "import", tmp_path / "m.onnx", "--out", tmp_path / "run")
    run(capsys, "quantize", tmp_path / "run", "--calibration", tmp_path / "x.npy", "--out", tmp_path / "b")
    run(capsys, "export", "onnx", tmp_path / "run", "--out", tmp_path / "again.onnx")
    a, b = load(tmp_path / "a"), load(tmp_path / "b")
    assert a.graph == b.graph == read_checkpoint(tmp_path / "run").graph and a.config.form == "onnx"
    assert a.record["answers"] == b.record["answers"] == answers(a, np.array(a.record["golden"]))
    found = read_onnx(tmp_path / "again.onnx")
    assert described(found.graph) == described(artifact.graph)
    for words, sentence in (
            (("--norm", "range"), f"--norm range and --layout are for checkpoints; {tmp_path}/m.onnx says by itself what it "
             "computes"),
            (("--length", 3), f"{tmp_path}/m.onnx: its input 'inputs': has sequences of 7 tokens, not of 3")):
        run(capsys, "import", tmp_path / "m.onnx", "--out", tmp_path / "c", *words, sentence=sentence)
        assert not (tmp_path / "c").exists()


def test_without_the_extra(tmp_path, capsys, monkeypatch):
    onnx.save(exported(random_artifact("emamba-odd")), tmp_path / "m.onnx")
    for name in [name for name in sys.modules if name.startswith("emamba.onnx")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "onnx", None)
    sentence = "ONNX needs the extra [onnx] (import of onnx halted; None in sys.modules): pip install '.[onnx]' in the checkout"
    run(capsys, "import", tmp_path / "m.onnx", "--out", tmp_path / "a", sentence=sentence)
    run(capsys, "export", "onnx", "models/mars", "--out", tmp_path / "b.onnx", sentence=sentence)
