"""Java's own classes, for what no client of Python can do or show."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from forebay_ops.local.servers import java_home
from py4j.java_gateway import GatewayParameters, JavaGateway, launch_gateway


@contextmanager
def running_jvm(class_path: str) -> Iterator[Any]:
    """The classes of a path, by the names of their packages, until the block is left."""
    java = str(java_home() / "bin" / "java")
    port: Any = launch_gateway(classpath=class_path, java_path=java, die_on_exit=True)
    gateway = JavaGateway(gateway_parameters=GatewayParameters(port=port, auto_convert=True))
    try:
        yield gateway.jvm
    finally:
        gateway.shutdown()
