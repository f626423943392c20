# The DICOM node `iscl-monai serve`. Needs BuildKit (docker 20.10 or newer) or buildah. compose.yaml shows its use.
#
#   CPU:    docker build -t iscl-monai .
#   CUDA:   docker build --build-arg TORCH_INDEX=https://download.pytorch.org/whl/cu130 -t iscl-monai:cuda .
#   no way to the internet: put all wheels into .wheels/ (see deploy/image/pip.sh) and nothing else is asked
#   own index or authority: --secret id=pip,src=pip.conf --secret id=ca,src=ca.pem; neither stays in the image
#
# Trained weights are not in the image: mount a bundle on /bundle. Settings on /config, data on /data.

# Any image with Python 3.11 to 3.13, or a Debian or Ubuntu whose apt has one. For builds that must be the same
# for ever give a digest: --build-arg BASE=python:3.11-slim-bookworm@sha256:...
ARG BASE=python:3.11-slim-bookworm

# Both stages below start here, so that the virtual environment finds the same interpreter at the same place.
FROM ${BASE} AS python
RUN set -e; \
    if ! command -v python3 >/dev/null; then \
      apt-get update; \
      apt-get install -y --no-install-recommends python3; \
      rm -rf /var/lib/apt/lists/*; \
    fi; \
    python3 -c 'import sys; v = sys.version_info; sys.exit(0 if (3, 11) <= v < (3, 14) else f"Python {v[0]}.{v[1]} in BASE; allowed: 3.11 to 3.13, which constraints.txt is for")'

FROM python AS builder
# Debian and Ubuntu keep what `python3 -m venv` needs in a package of its own; images named python have it.
RUN set -e; \
    if ! python3 -c 'import ensurepip' 2>/dev/null; then \
      apt-get update; \
      apt-get install -y --no-install-recommends python3-venv; \
      rm -rf /var/lib/apt/lists/*; \
    fi; \
    python3 -m venv /opt/pip; \
    python3 -m venv --without-pip /opt/venv

# torch first and alone: whichever build of it this index gives is then kept. Empty: pip's own configuration decides.
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
WORKDIR /needs
COPY constraints.txt ./
RUN --mount=type=bind,source=deploy/image/pip.sh,target=/pip.sh \
    --mount=type=bind,source=.wheels,target=/wheels \
    --mount=type=secret,id=pip --mount=type=secret,id=ca \
    ONLY_INDEX="${TORCH_INDEX}" sh /pip.sh install --no-deps -c constraints.txt torch

# What the package needs, with an empty package around it, so that a changed line of code does not fetch it all again.
ARG EXTRAS=serve
COPY pyproject.toml LICENSE ./
RUN --mount=type=bind,source=deploy/image/pip.sh,target=/pip.sh \
    --mount=type=bind,source=.wheels,target=/wheels \
    --mount=type=secret,id=pip --mount=type=secret,id=ca \
    set -e; \
    mkdir -p iscl_monai data_prep bundles/iscl/configs bundles/iscl/docs bundles/iscl/models; \
    touch iscl_monai/__init__.py data_prep/__init__.py bundles/iscl/LICENSE; \
    touch bundles/iscl/models/released.json bundles/iscl/models/released.pt bundles/iscl/models/student.pt; \
    echo '__version__ = "0"' >iscl_monai/version.py; \
    sh /pip.sh install -c constraints.txt ".[${EXTRAS}]"

WORKDIR /src
COPY pyproject.toml LICENSE ./
COPY iscl_monai iscl_monai
COPY data_prep data_prep
COPY bundles/iscl bundles/iscl
RUN --mount=type=bind,source=deploy/image/pip.sh,target=/pip.sh \
    --mount=type=bind,source=.wheels,target=/wheels \
    --mount=type=secret,id=pip --mount=type=secret,id=ca \
    set -e; \
    sh /pip.sh wheel --no-deps -w /dist .; \
    sh /pip.sh install --no-deps --force-reinstall /dist/*.whl

# 150 MB that nobody runs here: torch's tests and the headers for compilers; and pynetdicom's tests, which have private
# keys that scanners of images rightly shout at. Other tests stay: numpy imports some of its own.
RUN rm -rf /opt/venv/lib/python3*/site-packages/torch/test \
           /opt/venv/lib/python3*/site-packages/torch/include \
           /opt/venv/lib/python3*/site-packages/pynetdicom/tests

FROM python AS node
ARG BASE
ARG VERSION=unknown
ARG REVISION=unknown
LABEL org.opencontainers.image.title="iscl-monai" \
      org.opencontainers.image.description="Low-dose CT denoising beside a PACS. AI-processed, derived, not for primary diagnosis." \
      org.opencontainers.image.authors="iscl_monai contributors" \
      org.opencontainers.image.vendor="iscl_monai" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.base.name="${BASE}"

# A number that no account of the host has. Everything else in the image belongs to root, and this user cannot write it.
RUN groupadd --gid 10001 iscl \
 && useradd --uid 10001 --gid 10001 --home-dir /data --no-create-home --shell /usr/sbin/nologin iscl \
 && install -d -o 10001 -g 10001 -m 0750 /data
COPY --from=builder /opt/venv /opt/venv
COPY --chmod=0644 deploy/image/healthcheck.py /opt/healthcheck.py

# No bytecode is written (the root file system may be read-only; pip has compiled all of it), log lines come at once.
# The two of NVIDIA are what its container runtime asks for before it lends a GPU; nobody else reads them.
ENV PATH=/opt/venv/bin:${PATH} \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    ISCL_MONAI_BUNDLE=/bundle \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility

# No VOLUME: without a mounted /data a read-only container refuses to start. An unnamed volume would work, and then be
# forgotten with the scans in it.
WORKDIR /data
USER 10001:10001
EXPOSE 11112 8080
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=15s --timeout=5s --start-period=60s --retries=3 \
    CMD ["/opt/venv/bin/python", "-IS", "/opt/healthcheck.py"]

# The node is process 1 itself, no tini: it has its own handler for SIGTERM (without one process 1 would ignore it),
# and its only child is the worker, which it waits for; nothing else could leave zombies.
ENTRYPOINT ["iscl-monai"]
CMD ["serve", "--config", "/config/node.toml"]
