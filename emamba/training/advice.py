"""What a training's figures say, and what to try next."""

from ..config import Recipe
from ..datasets.baseline import Baseline
from ..datasets.metrics import BETTER, error_of, value_words
from ..datasets.outside import LARGE, REMEDY

APART = 1.5
"""Error on the validation part, in shares of that on the training part, from which a model overfits."""
GAP = 0.02
"""Of accuracies that lie so close, neither overfits."""
LATE = 0.95
"""Share of the epochs after which a best one says that more would help."""


def advice(recipe: Recipe, record: dict) -> list[str]:
    """Sentences on a checkpoint's record."""
    task, train = recipe.model.task, recipe.train
    figures, metric = record["figures"], BETTER[recipe.model.task][0]
    seen, new = (error_of(task, figures[part]) for part in ("train", "validate"))
    baseline = Baseline.read(record.get("baseline"))
    overfits = new > APART * seen and new - seen > (GAP if BETTER[task][1] > 0 else 0.0)
    beaten = not baseline or baseline.metric != metric or new <= error_of(task, {metric: baseline.value("validate")})
    beyond = record.get("beyond", {}).get("validate", 0.0)
    found = []
    if beyond >= LARGE and (overfits or not beaten):
        found.append(f"{beyond:.0%} of the validation values of a feature lie beyond the range of the training part: {REMEDY}")
    elif overfits:
        names = ("dropout", "jitter") if task == "regression" else ("dropout", "jitter", "label_smoothing", "scale", "cutout")
        unset = [name for name in names if not getattr(train, name)]
        found.append(f"it overfits, {metric} {value_words(metric, figures['train'][metric])} on the training part and "
                     f"{value_words(metric, figures['validate'][metric])} on the validation part: "
                     + (f"set train.{', '.join(unset[:3])}, " if unset else "raise train.dropout, ")
                     + f"raise train.weight_decay ({train.weight_decay:g}), lower model.d_model ({recipe.model.d_model}), or "
                     "give more data")
    elif not beaten or record["epoch"] >= LATE * len(record["history"]):
        pool = "; model.pool = 'last' suits forecasts" if recipe.model.pool == "mean" and task == "regression" else ""
        change = "; prepare --change suits values that hardly move" if not beaten and baseline.still else ""
        found.append(f"it was still learning, or is too small: raise train.epochs ({train.epochs}) or model.d_model "
                     f"({recipe.model.d_model}){pool}{change}")
    return found
