"""`emamba schema | completion`: help for editors and shells."""

import argparse
import json
import sys

from pydantic import BaseModel

from emamba.config import QuantizeConfig, Recipe
from emamba.training.settings import FinetuneConfig

from .arguments import Commands, command
from .meanings import explained

SCHEMAS = ("recipe", "quantize", "finetune", "search")
"""Kinds of TOML files."""


def add(commands: Commands) -> None:
    sub = command(commands, "schema", _schema, "emamba schema recipe > recipe.schema.json", data=False)
    sub.add_argument("kind", choices=SCHEMAS)
    command(commands, "completion", lambda options: _completion(commands.fill()), 'eval "$(emamba completion)"', data=False)


def _schema(options: argparse.Namespace) -> int:
    kinds: dict[str, type[BaseModel]] = {"recipe": Recipe, "quantize": QuantizeConfig, "finetune": FinetuneConfig}
    if options.kind == "search":
        from ..search.space import Space

        kinds["search"] = Space
    encoding = (getattr(sys.stdout, "encoding", None) or "").lower()
    print(json.dumps(explained(kinds[options.kind].model_json_schema()), indent=1, ensure_ascii=not encoding.startswith("utf")))
    return 0


def _completion(commands: dict[str, argparse.ArgumentParser]) -> int:
    print("_emamba() {\n  local words\n  case $COMP_CWORD:${COMP_WORDS[1]} in")
    print(f"    1:*) words='{' '.join(commands)}' ;;")
    for name, parser in commands.items():
        flags = [flag for action in parser._actions for flag in action.option_strings if flag.startswith("--")]
        print(f"    *:{name}) words='{' '.join(flags)}' ;;")
    print('  esac\n  COMPREPLY=($(compgen -W "$words" -- "${COMP_WORDS[COMP_CWORD]}"))\n}')
    print("complete -o default -F _emamba emamba")
    return 0
