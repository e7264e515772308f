# The light client, the command line, the gateway, the ledger, and workers of models behind addresses. No Flink, no torch,
# no model.

FROM python:3.11.14-slim-bookworm
WORKDIR /src
COPY . .
RUN pip install --no-cache-dir --constraint requirements.lock ".[gateway,reports,tracing,workers-http]"
# A named volume takes over the owner of the folder that it first covers.
RUN useradd --uid 10001 --create-home forebay && install -d -o forebay -g forebay /ledger /keys
USER forebay
WORKDIR /home/forebay
ENV PYTHONUNBUFFERED=1
CMD ["forebay", "--help"]
