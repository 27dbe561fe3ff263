#!/usr/bin/env bash
# The steps of the container image. deploy/Dockerfile runs them, and CI runs them in an empty folder tree, because a
# container engine is not everywhere:
#   image.sh wheel SOURCE DIST           builds the wheel
#   image.sh install LOCK DIST PREFIX    installs it, in the versions of the lock, into an environment of its own
#   image.sh folders ROOT                makes the folders that volumes are mounted on
set -euo pipefail
PYTHON=${PYTHON:-python3}
USER_ID=10001
step=${1:?"wheel, install or folders"}
shift

case $step in
wheel)
  source=$1 dist=$2
  "$PYTHON" -m pip wheel --quiet --no-deps --wheel-dir "$dist" "$source"
  ;;
install)
  lock=$1 dist=$2 prefix=$3
  "$PYTHON" -m venv "$prefix"
  wheel=$(echo "$dist"/clara_dicom_adapter-*.whl)
  # of the lock its versions, but only for what the wheel and the example pipelines ask for: no development tools
  constraints=$(mktemp)
  sed -e 's/ *\\$//' -e '/^ *--hash/d' "$lock" >"$constraints"
  "$prefix/bin/python" -m pip install --quiet --no-cache-dir --constraint "$constraints" "$wheel[pipelines]"
  rm "$constraints"
  ;;
folders)
  root=${1%/}
  for folder in /data /payloads /database; do
    mkdir -p "$root$folder"
    if [ "$(id -u)" -eq 0 ]; then chown "$USER_ID:$USER_ID" "$root$folder"; fi
  done
  ;;
*)
  echo "image.sh: no step '$step': wheel, install or folders" >&2
  exit 2
  ;;
esac
