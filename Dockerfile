# syntax=docker/dockerfile:1
# The studio in a container. CPU:  docker build -t seedbed .
#                            CUDA: docker build -t seedbed --build-arg DEVICE=cuda .
# Run: docker run -p 7860:7860 -e SEEDBED_AUTH=user:password -v seedbed-saves:/app/saves -v seedbed-data:/app/data \
#        seedbed                                    (CUDA: add --gpus all, for several --shm-size 8g too)
FROM python:3.11-slim-bookworm

ARG DEVICE=cpu
ENV SEEDBED_DEVICE=${DEVICE} SEEDBED_HOST=0.0.0.0 PYTHONUNBUFFERED=1 PIP_NO_CACHE_DIR=1 \
    NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility

# tini reaps the nannies, which leave their parent on purpose; vLLM asks lscpu (util-linux) for the cores;
# on a GPU, Triton and torch.compile call a C compiler when a kernel is first used
RUN apt-get update \
 && apt-get install -y --no-install-recommends tini util-linux make \
    $([ "$DEVICE" = cuda ] && echo gcc g++ libc6-dev) \
 && rm -rf /var/lib/apt/lists/*

WORKDIR /app
RUN useradd --create-home --uid 1000 seedbed && chown seedbed /app
USER seedbed

# the environment is a layer of its own: a change of the program does not install it anew
COPY --chown=seedbed Makefile requirements*.lock ./
COPY --chown=seedbed tools/environment.py tools/
RUN make environment

COPY --chown=seedbed . .

VOLUME ["/app/data", "/app/saves"]
EXPOSE 7860
HEALTHCHECK --interval=30s --timeout=5s --start-period=30s \
  CMD [".venv/bin/python", "-c", "import os, urllib.request; urllib.request.urlopen(f'http://127.0.0.1:{os.environ.get(\"SEEDBED_PORT\", \"7860\")}/', timeout=4)"]

# SEEDBED_HOST is open here, so without SEEDBED_AUTH the studio refuses to start and says so
ENTRYPOINT ["tini", "--", ".venv/bin/python", "app.py"]
