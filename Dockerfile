# CPU:  docker build -t rtstyle .
#       docker run --rm -v "$PWD:/data" rtstyle video in.mp4 out.mp4
# GPU:  docker build -t rtstyle:gpu --target gpu .
#       docker run --rm --gpus all -v "$PWD:/data" rtstyle:gpu video in.mp4 out.mp4
# Page: docker run --rm -p 8765:8765 -v "$PWD:/data" rtstyle serve --host 0.0.0.0 --cert cert.pem --key key.pem

FROM python:3.12-slim AS build
WORKDIR /source
COPY . .
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels .

FROM python:3.12-slim AS base
RUN useradd --create-home --uid 1000 rtstyle && mkdir /data && chown rtstyle /data
COPY --from=build /wheels /wheels
WORKDIR /data
ENTRYPOINT ["rtstyle"]
CMD ["--help"]

# TensorRT-RTX comes from PyPI; the driver is mounted by the NVIDIA Container Toolkit.
FROM base AS gpu
ENV NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,video,utility
# hadolint ignore=DL3013
RUN wheel="$(ls /wheels/rtstyle-*.whl)" && pip install --no-cache-dir "${wheel}[web,tensorrt-rtx]"
USER 1000

FROM base AS cpu
# hadolint ignore=DL3013
RUN wheel="$(ls /wheels/rtstyle-*.whl)" && pip install --no-cache-dir "${wheel}[web]"
USER 1000
