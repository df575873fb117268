"""Random models from float weights to Verilog: what no list of shapes thinks of."""

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from emamba.base.errors import DesignLimit
from emamba.config import ModelConfig
from emamba.run.reference import Reference
from sim.models import random_artifact, random_inputs

from .faults import undefined


@st.composite
def configs(draw) -> ModelConfig:
    """A small model of any kind."""
    kind = draw(st.sampled_from(("image", "sequence", "tokens")))
    size = {
        "image": {"image": (2, 4, draw(st.integers(1, 3))), "patch": (draw(st.sampled_from((1, 2))), 2)},
        "sequence": {"features": draw(st.integers(1, 5)), "length": draw(st.integers(1, 5))},
        "tokens": {"vocabulary": draw(st.integers(2, 9)), "length": draw(st.integers(1, 5))},
    }[kind]
    task = draw(st.sampled_from(("classification", "regression", *["next_token"] * (kind == "tokens"))))
    pool = "none" if task == "next_token" else draw(st.sampled_from(("mean", "last")))
    return ModelConfig(
        form=draw(st.sampled_from(("emamba", "standard"))),
        input=kind,
        **size,
        d_model=draw(st.integers(1, 5)),
        expand=draw(st.integers(1, 2)),
        d_state=draw(st.integers(1, 3)),
        dt_rank=draw(st.integers(1, 3)),
        d_conv=draw(st.integers(1, 4)),
        blocks=1,
        norm=draw(st.sampled_from(("range", "layer", "rms", "none"))),
        residual=draw(st.booleans()),
        pool=pool,
        task=task,
        outputs=size.get("vocabulary", draw(st.integers(1, 4))),
    )


def run(examples: int) -> list[dict]:
    """Each model's Verilog, its registers undefined at power-up, against its integer model; and that the float executor runs.
    A model whose scales fit no hardware, such as one that is 0 everywhere, is `refused` with the quantizer's sentence."""
    rows: list[dict] = []

    @seed(0)
    @settings(
        max_examples=examples, deadline=None, database=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck)
    )
    @given(configs(), st.integers(1, 6), st.integers(0, 80))
    def one(config: ModelConfig, cycles_per_token: int, percent: int) -> None:
        shape = {"shape": config.model_dump(exclude_none=True)}
        try:
            artifact = random_artifact(config)
        except DesignLimit as error:
            rows.append({"refused": str(error)} | shape)
            return
        keys = Reference(artifact.graph, artifact.weights).run(artifact.codec.standardize(random_inputs(config, 2)), None)
        assert set(artifact.operators) == set(keys)
        rows.append(undefined(artifact, cycles_per_token, percent, frames=3) | shape)

    one()
    return rows
