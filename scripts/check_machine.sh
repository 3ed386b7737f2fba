#!/bin/sh
# Says what is missing before anything is installed. Usage: check_machine.sh PYTHON
python=$1
missing=""
command -v "$python" >/dev/null 2>&1 || { echo "error: $python is not installed" >&2; exit 1; }
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || missing="$missing python3.11"
"$python" -c 'import venv, ensurepip' 2>/dev/null || missing="$missing python3-venv"
"$python" -c 'import os, sysconfig, sys
sys.exit(not os.path.exists(os.path.join(sysconfig.get_paths()["include"], "Python.h")))' || missing="$missing python3-dev"
command -v "${CXX:-g++}" >/dev/null 2>&1 || missing="$missing g++"
if [ -n "$missing" ]; then
  echo "error: this machine lacks:$missing" >&2
  echo "hint: on Debian or Ubuntu, apt-get install$missing" >&2
  exit 1
fi
