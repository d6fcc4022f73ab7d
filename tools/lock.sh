#!/usr/bin/env bash
# Makes the .lock files anew from requirements-*.txt: `make lock`. Versions already locked are kept where they
# still fit; delete a lock first to move everything to the newest. Nothing is installed into .venv.
set -euo pipefail
cd "$(dirname "$0")/.."
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3.11}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet uv

resolve() { # NAME UV-ARGUMENT...
  local name=$1
  shift
  local body="$folder/$name.lock"
  if [ -f "requirements-$name.lock" ]; then cp "requirements-$name.lock" "$body"; fi
  "$folder/venv/bin/uv" pip compile "requirements-$name.txt" "$@" --output-file "$body" \
    --python-version 3.11 --only-binary :all: --no-binary deepspeed --no-annotate --no-header --quiet
  {
    echo "# Every package of requirements-$name.txt, exact, for Python 3.11 on Linux x86_64. Made by \`make lock\`"
    echo "# (uv pip compile), never by hand; installed with \`pip install --no-deps\` by tools/environment.py."
    cat "$body"
  } >"$folder/new"
  mv "$folder/new" "requirements-$name.lock"
}

# torch's CPU build: from a folder of wheels if one is given, otherwise from PyTorch's own index
torch=(--extra-index-url https://download.pytorch.org/whl/cpu --index-strategy unsafe-best-match)
if [ -n "${PIP_FIND_LINKS:-}" ]; then torch=(--find-links "$PIP_FIND_LINKS"); fi

resolve cpu --override requirements-cpu-overrides.txt "${torch[@]}"
resolve cuda
resolve quantize --no-deps
resolve dev --constraint requirements-cpu.lock --constraint requirements-cuda.lock
