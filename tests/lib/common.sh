# shellcheck shell=bash
# Sourced by the suites' scripts (not run): where things are, and how a suite reports.
set -euo pipefail

CRISP_TOP=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
CRISP_LOGS=${CRISP_LOGS:-$CRISP_TOP/build/test-logs}
CRISP_BUILD=${CRISP_BUILD:-$CRISP_TOP/build/release}
PYTHON=/usr/bin/python3 # Debian's: the one that Debian's python3-grpcio and python3-pytest belong to
export CRISP_TOP CRISP_LOGS CRISP_BUILD
mkdir -p "$CRISP_LOGS"

# A Go that the pinned modules accept, or nothing. Debian 12's own (1.19) is too old.
find_go() {
    local go
    for go in "$(command -v go || true)" /usr/local/go/bin/go; do
        if [ -x "$go" ] && "$go" version | awk '{ split(substr($3, 3), v, "."); exit !(v[1] > 1 || v[2] >= 26) }'; then
            echo "$go"
            return 0
        fi
    done
    return 1
}

# result SUITE NAME passed|failed|skipped [TEXT]: one outcome that no test runner reported.
result() {
    "$PYTHON" "$CRISP_TOP/tests/lib/tally.py" --write "$CRISP_LOGS/$1.$2.xml" "$1" "$2" "$3" "${4:-}"
}
