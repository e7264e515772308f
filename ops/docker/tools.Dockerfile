# The light client and the command line: makes topics, asks questions. No Flink, no torch, no model.

FROM python:3.11.14-slim-bookworm
WORKDIR /src
COPY . .
RUN pip install --no-cache-dir --constraint requirements.lock .
RUN useradd --uid 10001 --create-home forebay
USER forebay
WORKDIR /home/forebay
ENV PYTHONUNBUFFERED=1
CMD ["forebay", "--help"]
