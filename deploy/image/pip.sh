#!/bin/sh
# pip as the Dockerfile calls it: into /opt/venv, which has no pip of its own.
#
# /wheels/*.whl           if there are any, they are all there is, and no index is asked. To fill .wheels/ with a
#                         Python of the same version as the image's:
#                           pip download -d .wheels -c constraints.txt torch 'hatchling>=1.26' '.[serve]'
# ONLY_INDEX              if not empty, this index and no other
# /run/secrets/pip, ca    pip.conf and a certificate authority of the site, only while this runs
set -eu

if [ -s /run/secrets/pip ]; then export PIP_CONFIG_FILE=/run/secrets/pip; fi
if [ -s /run/secrets/ca ]; then export PIP_CERT=/run/secrets/ca; fi
if ls /wheels/*.whl >/dev/null 2>&1; then
  export PIP_NO_INDEX=1 PIP_FIND_LINKS=/wheels
elif [ -n "${ONLY_INDEX:-}" ]; then
  export PIP_INDEX_URL="$ONLY_INDEX" PIP_EXTRA_INDEX_URL=
fi
export PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore

# Wheels are made by the pip that has what it needs; --python is where they are installed.
case $1 in
  install) exec /opt/pip/bin/python -m pip --python /opt/venv/bin/python "$@" ;;
  *) exec /opt/pip/bin/python -m pip "$@" ;;
esac
