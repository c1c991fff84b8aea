#!/usr/bin/env bash
# Makes a follower the writer of its instance. --help says how; the program is
# scripts/promote, taken from bin/ where it was built, and built there where it was not.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
program=$root/bin/promote
if [[ ! -x $program ]]; then
  make --silent -C "$root" bin/promote >&2
fi
exec "$program" "$@"
