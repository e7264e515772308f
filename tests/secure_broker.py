"""A real broker that speaks TLS alone, asks by SCRAM who is there, and by Kafka's own authorizer what they may."""

# pyright: reportPrivateImportUsage=false
# confluent_kafka.admin documents these names, and does not list them in __all__.

from pathlib import Path

from confluent_kafka import KafkaException
from confluent_kafka.admin import (
    AdminClient,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialUpsertion,
)
from forebay_jobs.kafka_access import java_access
from forebay_ops.local.parts import local_parts
from forebay_schemas.config import Config
from forebay_schemas.section import TlsConfig
from forebay_schemas.sections import KafkaConfig
from pydantic import SecretStr

from .authority import Authority
from .broker import Broker
from .waiting import eventually

_ADMIN = "admin"
PASSWORD = 'canary-"kafka"-\\'
"""Of every user; with what has to be quoted in Java's settings."""
_JAAS = "org.apache.kafka.common.security"


class SecureBroker(Broker):
    """Users are made as they are asked for; ``config`` is the super user's.

    Its own users lie in its settings and come by PLAIN, as nobody could make the first one else.
    """

    def __init__(self, folder: Path, settings: str = "") -> None:
        super().__init__(folder, settings)
        authority = Authority(folder)
        certificate = authority.signed("client")
        kafka = self.config.kafka
        port = int(kafka.bootstrap.rpartition(":")[2])
        self._tls = TlsConfig(ca_file=authority.ca_file, certificate_file=certificate)
        server = {
            "listeners": f"SASL_SSL://localhost:{port},CONTROLLER://localhost:{port + 1}",
            "advertised.listeners": f"SASL_SSL://{kafka.bootstrap}",
            "listener.security.protocol.map": "SASL_SSL:SASL_SSL,CONTROLLER:PLAINTEXT",
            "inter.broker.listener.name": "SASL_SSL",
            "sasl.mechanism.inter.broker.protocol": "PLAIN",
            "sasl.enabled.mechanisms": "SCRAM-SHA-512,SCRAM-SHA-256,PLAIN",
            "listener.name.sasl_ssl.plain.sasl.jaas.config": f"{_JAAS}.plain.PlainLoginModule required"
            f' username="{_ADMIN}" password="{_ADMIN}" user_{_ADMIN}="{_ADMIN}";',
            "listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config": f"{_JAAS}.scram.ScramLoginModule required;",
            "listener.name.sasl_ssl.scram-sha-256.sasl.jaas.config": f"{_JAAS}.scram.ScramLoginModule required;",
            "ssl.keystore.type": "PEM",
            "ssl.keystore.location": authority.signed("broker"),
            "ssl.truststore.type": "PEM",
            "ssl.truststore.location": authority.ca_file,
            "ssl.client.auth": "required",
            "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            "super.users": f"User:{_ADMIN};User:ANONYMOUS",  # the controller's listener is the broker's own
        }
        with (self.home.kafka / "server.properties").open("a") as file:
            file.writelines(f"{name}={value}\n" for name, value in server.items())
        self.config = self._with(user=_ADMIN, password=SecretStr(_ADMIN), sasl_mechanism="PLAIN")
        (self._part,) = local_parts(self.config, self.home)

    def as_user(self, user: str, mechanism: str = "SCRAM-SHA-512") -> Config:
        """The configuration of a user, who is made if need be."""
        config = self._with(user=user, password=SecretStr(PASSWORD), sasl_mechanism=mechanism)
        scram = ScramCredentialInfo(ScramMechanism[mechanism.replace("-", "_")], 4096)
        made = UserScramCredentialUpsertion(user, scram, PASSWORD.encode())
        admin = AdminClient(self.config.kafka.client())
        for future in admin.alter_user_scram_credentials([made]).values():
            future.result()
        eventually(lambda: _may_come(config.kafka), f"{user} may come")
        return config

    def admin_properties(self) -> str:
        """How the super user's Java clients come here, as a file of properties."""
        java = java_access(self.config.kafka)
        module = "org.apache.kafka.common.security.plain.PlainLoginModule"  # not the one that Flink's connector brings
        java["sasl.jaas.config"] = f'{module} required username="{_ADMIN}" password="{_ADMIN}";'
        return "".join(f"{name}={value}\n" for name, value in java.items())

    def _with(self, **access: object) -> Config:
        """The configuration for somebody; checked as what is read from a file is."""
        kafka = {**self.config.kafka.model_dump(), "security_protocol": "SASL_SSL"}
        kafka |= {"tls": self._tls.model_dump(), **access}
        return self.config.model_copy(update={"kafka": KafkaConfig.model_validate(kafka)})


def _may_come(kafka: KafkaConfig) -> bool:
    try:
        AdminClient(kafka.client() | {"log_level": 0}).list_topics(timeout=5)
    except KafkaException:
        return False
    return True
