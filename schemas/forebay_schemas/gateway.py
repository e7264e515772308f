"""The section of the gateway: where it listens, who may call it, and how much it takes."""

from pathlib import Path

from pydantic import Field, SecretStr

from .section import ServerTlsConfig
from .sections import Section


class GatewayConfig(Section):
    """The OpenAI-compatible HTTP front."""

    host: str = Field(
        default="127.0.0.1", description="Address to listen on; one that other machines reach needs keys."
    )
    port: int = Field(default=8090, ge=1, le=65_535, description="Port to listen on.")
    tls: ServerTlsConfig | None = Field(
        default=None, description="What it speaks TLS with; absent: it speaks plain HTTP."
    )
    key_file: Path | None = Field(
        default=None,
        description="File of API keys, which `forebay gateway keys` writes; absent: no key is asked for, and only this"
        " machine may call.",
    )
    tenant: str = Field(default="default", min_length=1, description="Whose requests are those without a key.")
    aliases: dict[str, str] = Field(
        default_factory=dict,
        description='Names that services give as `model`, and what they stand for: auto, a tier or a model; "*" is any'
        " other name.",
    )
    timeout_s: float = Field(
        default=120.0, gt=0, le=86_400, description="How long an answer may take where a request says nothing."
    )
    max_inflight: int = Field(
        default=256,
        ge=1,
        le=100_000,
        description="Calls of one process at a time, those whose caller left before their end included; more are told"
        " to come again.",
    )
    redis_url: SecretStr | None = Field(
        default=None,
        description="redis:// or rediss:// address where the limits of keys are counted, and files, batches and answers"
        " to idempotent calls kept, with user and password in it; the files under redis.tls hold there too. Absent:"
        " redis.url.",
    )
    max_file_bytes: int = Field(
        default=100_000_000, ge=1, le=512_000_000, description="A file of requests that is uploaded may have so many."
    )
    tenant_file_bytes: int = Field(
        default=1_000_000_000, ge=1, description="So much may be uploaded for a tenant while it has such files."
    )
    files_kept_s: int = Field(
        default=7 * 86_400, ge=3_600, description="How long files are kept at most, from uploads and of results."
    )
    allow_uncounted: bool = Field(
        default=False,
        description="Whether keys with limits may call while Redis is away and nothing is counted; else they get 503.",
    )
    hold_streams: bool = Field(
        default=False,
        description="Whether streams give their text when it is sure to stay, all at once; else at once, and a stream"
        " whose answer a larger tier begins anew ends in an error.",
    )
    drain_timeout_s: float = Field(
        default=30.0, ge=0, description="How long SIGTERM lets running calls finish; what is left is cancelled."
    )
