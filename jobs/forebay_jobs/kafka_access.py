"""How Flink's Kafka clients reach the brokers: the Java names of what ``KafkaConfig.client`` gives to librdkafka."""

from forebay_schemas.sections import KafkaConfig

_SHADED = "org.apache.flink.kafka.shaded.org.apache.kafka.common.security"
"""The connector carries Kafka's classes under names of its own, and a login module is looked up by its name."""
_LOGIN_MODULES = {
    "PLAIN": f"{_SHADED}.plain.PlainLoginModule",
    "SCRAM-SHA-256": f"{_SHADED}.scram.ScramLoginModule",
    "SCRAM-SHA-512": f"{_SHADED}.scram.ScramLoginModule",
}


def java_access(kafka: KafkaConfig) -> dict[str, str]:
    """Settings for a connection as this user; secrets in the clear, so they are not for printing."""
    if kafka.security_protocol == "PLAINTEXT":
        return {}
    settings = {"security.protocol": kafka.security_protocol}
    if kafka.sasl and kafka.user is not None and kafka.password is not None:
        user, password = _quoted(kafka.user), _quoted(kafka.password.get_secret_value())
        module = _LOGIN_MODULES[kafka.sasl_mechanism]
        settings["sasl.mechanism"] = kafka.sasl_mechanism
        settings["sasl.jaas.config"] = f"{module} required username={user} password={password};"
    if kafka.tls.ca_file is not None:
        settings |= {"ssl.truststore.type": "PEM", "ssl.truststore.location": str(kafka.tls.ca_file)}
    if kafka.tls.certificate_file is not None:
        settings |= {"ssl.keystore.type": "PEM", "ssl.keystore.location": str(kafka.tls.certificate_file)}
    return settings


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
