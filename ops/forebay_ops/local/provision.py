"""Makes what the parts need and no package brings ready to use: jars, and the chat model as a folder.

Every step is done once: it writes to a temporary folder and renames that, so what exists is complete.
"""

import fcntl
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from forebay_schemas.config import Config
from forebay_schemas.errors import ConfigError
from forebay_schemas.tiers import Backend

from . import chat_model
from .home import Home

Say = Callable[[str], None]
"""Takes one line that says what is being done."""


@dataclass(frozen=True, slots=True)
class Jars:
    """A folder of jars: these Maven artifacts with all that they need. Its name changes with the version."""

    folder: str
    artifacts: tuple[str, ...]


KAFKA = Jars(
    "kafka-4.3.0",
    # The broker brings no logger of its own; this one fits the log4j that it does bring.
    ("org.apache.kafka:kafka_2.13:4.3.0", "org.apache.logging.log4j:log4j-slf4j-impl:2.25.4"),
)
# There is no build for Flink 2.3; this one works on it.
CONNECTOR = Jars("flink-connector-kafka-5.0.0-2.2", ("org.apache.flink:flink-sql-connector-kafka:5.0.0-2.2",))

CHAT_MODEL = f"package:{chat_model.PACKAGE}"
"""What ``models.<name>.weights`` says to get the chat model that the package carries."""


def provision(config: Config, home: Home, say: Say) -> None:
    """Make everything that the parts in ``local.start`` need and that is not there yet.

    Raises:
        ConfigError: something cannot be fetched or made.
    """
    start = config.local.start
    if "kafka" in start:
        _fetch(KAFKA, home, say)
    if "flink" in start or "job" in start:
        _fetch(CONNECTOR, home, say)
    if "worker" in start and not chat_model_folder(home).exists() and _uses_chat_model(config, home):
        say(f"unpacking the chat model of {chat_model.PACKAGE} (once; half a minute)")
        _unpack_chat_model(home)


def jar_folder(jars: Jars, home: Home) -> Path:
    """Where jars lie once they are fetched."""
    return home.jars / jars.folder


def chat_model_folder(home: Home) -> Path:
    """Where the chat model of ``CHAT_MODEL`` is unpacked."""
    return home.models / "smollm2-135m-instruct"


def _uses_chat_model(config: Config, home: Home) -> bool:
    models = [config.models[tier.model] for tier in config.tiers.values()]
    return any(model.backend is Backend.VLLM and model.weights == str(chat_model_folder(home)) for model in models)


def _fetch(jars: Jars, home: Home, say: Say) -> None:
    folder = jar_folder(jars, home)
    if folder.exists():
        return
    home.jars.mkdir(parents=True, exist_ok=True)
    with (home.jars / ".lock").open("w") as lock:  # homes may share their jars
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            say(f"fetching {jars.folder} from Maven Central (once)")
            _fetch_to(folder, jars)


def _fetch_to(folder: Path, jars: Jars) -> None:
    import jgo  # takes half a second, which every later start can spare

    unfinished = Path(tempfile.mkdtemp(prefix=f".{jars.folder}-", dir=folder.parent))
    try:
        for coordinates in jars.artifacts:
            # One by one: jgo takes coordinates that are resolved together as rules for each other's versions.
            for artifact in jgo.resolve(coordinates):
                shutil.copy(artifact.resolve(), unfinished)
        unfinished.chmod(0o755)  # mkdtemp's 700 is for secrets
        unfinished.rename(folder)
    except (OSError, RuntimeError, ValueError) as error:
        raise ConfigError(
            f"{', '.join(jars.artifacts)} cannot be fetched from Maven Central ({error});"
            " check the network and run the command again: what is fetched already is kept"
        ) from None
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _unpack_chat_model(home: Home) -> None:
    chat_model.gguf_file()
    home.logs.mkdir(parents=True, exist_ok=True)
    log = home.logs / "provision.log"
    with log.open("ab") as output:
        command = [sys.executable, "-m", chat_model.__name__, str(chat_model_folder(home))]
        done = subprocess.run(command, stdout=output, stderr=subprocess.STDOUT, check=False)
    if done.returncode:
        raise ConfigError(f"the chat model of {chat_model.PACKAGE} cannot be unpacked; {log} says why")
