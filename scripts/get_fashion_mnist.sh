#!/bin/sh
# Fetches Fashion-MNIST (MIT licence) from Debian's package into build/fashion-mnist, without root.
set -e
target=$(cd "$(dirname "$0")/.." && pwd)/build/fashion-mnist
package=dataset-fashion-mnist
if [ -f "$target/train-images-idx3-ubyte.gz" ]; then
  echo "$target is there"
  exit 0
fi
for tool in apt-get dpkg; do
  command -v "$tool" >/dev/null 2>&1 || {
    echo "error: this machine has no $tool" >&2
    echo "hint: put the four files of Fashion-MNIST (*-ubyte.gz) into $target" >&2
    exit 1
  }
done
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
(cd "$work" && apt-get -qq download "$package") || {
  echo "error: apt-get cannot download $package" >&2
  echo "hint: run apt-get update, or put the four files of Fashion-MNIST (*-ubyte.gz) into $target" >&2
  exit 1
}
dpkg -x "$work/$package"_*.deb "$work/files"
mkdir -p "$target"
cp "$work/files/usr/share/datasets/fashion-mnist/"*.gz "$target"
echo "$target"
