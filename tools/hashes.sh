#!/bin/sh
# Writes hashes.txt from constraints.txt, by the program uv (pip install uv): the hashes of every file of a release, so that any
# machine's is known. Without torch: its file is another one for each kind of machine, some come from no index, and the packages
# that it brings differ with it. Without what only the extra `layouts` needs, which set-up does not install.
set -eu
layouts='annotated-doc|anyio|h11|hf-xet|httpcore2|httpx2|huggingface_hub|regex|shellingham|tokenizers|transformers|truststore|typer'
{
    echo "# What set-up installs, but torch: tools/hashes.sh made this from constraints.txt."
    grep -Ev "^(torch|$layouts)==" constraints.txt | uv pip compile - --no-deps --generate-hashes --universal \
        --python-version 3.11.7 --no-annotate --no-header -q
} > hashes.new
mv hashes.new hashes.txt
