"""What every section of the configuration is made of: strict, immutable, with secrets that may lie in files."""

import ssl
from pathlib import Path
from typing import Annotated, Any, get_args
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr, model_validator

FILE = "_file"
"""Ends the name of the setting that names the file of a secret, behind the secret's own."""


class Section(BaseModel):
    """A part of the configuration: immutable, and unknown names are errors.

    For each secret ``name`` it takes ``name_file`` instead: a file that holds it, read when the configuration is. Of a
    table of secrets the file holds lines of ``name=value``, as Kafka's own properties do.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _read_secret_files(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        read = dict(values)
        for name in secrets_of(cls):
            file = read.pop(name + FILE, None)
            if file is None:
                continue
            if read.get(name):
                raise ValueError(f"{name} and {name}{FILE} are both given; leave one of them out")
            read[name] = _content(name, file, is_table=get_args(cls.model_fields[name].annotation)[:1] == (str,))
        return read


def secrets_of(section: type[BaseModel]) -> list[str]:
    """The names of a section's secrets."""
    return [name for name, field in section.model_fields.items() if _is_secret(field.annotation)]


def _is_secret(annotation: Any) -> bool:
    return annotation is SecretStr or SecretStr in get_args(annotation)


def _content(name: str, file: Any, *, is_table: bool) -> Any:
    try:
        text = Path(str(file)).read_text("utf-8")
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "is no UTF-8 text"
        mend = "name a file that this user may read"
        raise ValueError(f"{name}{FILE}: {file} cannot be read ({reason}); {mend}") from None
    if not is_table:
        return text.strip()
    lines = [line.strip() for line in text.splitlines()]
    pairs = [line.partition("=") for line in lines if line and not line.startswith("#")]
    if not all(equals for _, equals, _ in pairs):
        raise ValueError(f"{name}{FILE}: {file} has a line without `=`; give one name=value a line")
    return {key.strip(): value.strip() for key, _, value in pairs}


def _without_secrets(url: str | None) -> str | None:
    if url and urlsplit(url).username is not None:
        raise ValueError("holds a user; addresses are printed, so give user and password in settings of their own")
    return url


Address = Annotated[str | None, AfterValidator(_without_secrets)]


def _there(file: Path) -> Path:
    if not file.is_file():
        raise ValueError(f"there is no file {file}; name a PEM file that this user may read")
    return file.absolute()  # parts run in other folders than the one in which it was named


PemFile = Annotated[Path, AfterValidator(_there)]


class TlsConfig(Section):
    """Whose certificates are trusted, and which one is shown; a server's name is checked in any case."""

    ca_file: PemFile | None = Field(
        default=None,
        description="PEM file of the authorities that may have signed the server's certificate; absent: those that this"
        " machine trusts.",
    )
    certificate_file: PemFile | None = Field(
        default=None,
        description="PEM file with the certificate to show, those that signed it, and its private key (PKCS#8, without"
        " a password); absent: none is shown.",
    )

    def context(self) -> ssl.SSLContext:
        """For what speaks TLS by Python's own library."""
        context = ssl.create_default_context(cafile=self.ca_file)
        if self.certificate_file is not None:
            context.load_cert_chain(self.certificate_file)
        return context


class ServerTlsConfig(Section):
    """The certificate that callers are shown, and whose they must show themselves."""

    certificate_file: PemFile = Field(
        description="PEM file with the server's certificate, those that signed it, and its private key (PKCS#8, without"
        " a password).",
    )
    client_ca_file: PemFile | None = Field(
        default=None,
        description="PEM file of the authorities of which one must have signed the certificate that a caller shows;"
        " absent: none is asked for.",
    )

    def context(self) -> ssl.SSLContext:
        """For a server that speaks TLS by Python's own library.

        Raises:
            OSError: a file cannot be read, or is none of PEM (``ssl.SSLError``).
        """
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(self.certificate_file)
        if self.client_ca_file is not None:
            context.load_verify_locations(self.client_ca_file)
            context.verify_mode = ssl.CERT_REQUIRED
        return context
