# The sidecar, and the `neuralrank` command with everything else of Python:
#   docker build -f docker/sidecar.Dockerfile -t neuralrank-sidecar:0.1.0 .
# docker-compose.yml gives the Python of neuralrank/stack/versions.env, which is the default here too.
ARG PYTHON_VERSION=3.11

FROM python:${PYTHON_VERSION}-slim AS build
WORKDIR /build
COPY pyproject.toml hatch_build.py README.md LICENSE NOTICE ./
COPY protos protos
COPY neuralrank neuralrank
COPY sidecar sidecar
COPY indexer indexer
COPY opensearch_config opensearch_config
COPY trainer trainer
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels .

FROM python:${PYTHON_VERSION}-slim
# "[gpu]" for TensorRT, whose wheels come from NVIDIA's package index while this is built; "[gpu,otel]"
# for traces too. Empty: "[otel]".
ARG EXTRAS
COPY constraints.txt /tmp/constraints.txt
RUN --mount=type=bind,from=build,source=/wheels,target=/wheels \
    pip install --no-cache-dir -c /tmp/constraints.txt "$(echo /wheels/*.whl)${EXTRAS:-[otel]}"
# An ordinary account, which the Helm chart names by its number; it owns the registry and the engines,
# as a new volume takes over what is in the image.
RUN useradd --create-home --uid 1000 neuralrank && mkdir /models /engines && chown neuralrank /models /engines
USER neuralrank
WORKDIR /home/neuralrank
ENV PYTHONUNBUFFERED=1
EXPOSE 50051
CMD ["neuralrank-sidecar"]
