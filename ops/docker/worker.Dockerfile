# The tier worker: vLLM on NVIDIA GPUs. The driver comes from the host, through the NVIDIA Container Toolkit.

FROM nvidia/cuda:13.0.2-devel-ubuntu24.04 AS cuda

FROM python:3.11.14-slim-bookworm
# Some of vLLM's kernels are compiled for the GPU that is found at start: that takes a C++ compiler and CUDA's own.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends build-essential \
    && rm -rf /var/lib/apt/lists/*
COPY --from=cuda /usr/local/cuda-13.0 /usr/local/cuda
ENV CUDA_HOME=/usr/local/cuda \
    PATH=/usr/local/cuda/bin:$PATH
RUN pip install --no-cache-dir uv==0.13.8

# vLLM pins all that its kernels depend on. Our lock and overrides are those of the CPU build and do not fit here,
# hence --no-config.
WORKDIR /src
COPY pyproject.toml ./
RUN uv pip install --system --no-cache --no-config -r pyproject.toml --extra workers-gpu --extra tracing

COPY . .
RUN uv pip install --system --no-cache --no-config --no-deps .

# The home is where weights and compiled kernels are kept: as a volume it spares the next start both.
RUN useradd --uid 10001 --create-home --home-dir /cache forebay
USER forebay
WORKDIR /cache
ENV PYTHONUNBUFFERED=1 \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility \
    VLLM_NO_USAGE_STATS=1 \
    DO_NOT_TRACK=1
CMD ["forebay", "worker", "run"]
