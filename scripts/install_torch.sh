#!/bin/sh
# Installs the small CPU build of PyTorch where an index has it; a plain range would take gigabytes of CUDA.
set -e
if [ -n "${PIP_FIND_LINKS:-}" ]; then
  exec "$PYTHON" -m pip install --quiet -c constraints.txt torch
fi
"$PYTHON" -m pip install --quiet uv
"$PYTHON" -m uv pip install --quiet --python "$PYTHON" --torch-backend cpu -c constraints.txt torch || {
  echo "note: the index of CPU builds cannot be reached; taking the default build of torch" >&2
  "$PYTHON" -m pip install --quiet -c constraints.txt torch
}
