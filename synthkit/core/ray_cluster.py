"""The Ray cluster that the parameters name: this process joins it as a driver, once it is there and offers enough."""

import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from synthkit.core.errors import EndpointError
from synthkit.core.params import RayParams

CONNECT_S = 5.0


@contextmanager
def connect(params: RayParams) -> Iterator[None]:
    """This process as a driver of the cluster. Raises EndpointError when there is none."""
    ray = import_ray()
    if ray.is_initialized():
        check_resources(params)
        yield
        return
    check_address(params.address)
    try:
        with keep_signals():
            ray.init(address=params.address, log_to_driver=False, configure_logging=False)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise no_cluster(params.address) from error
    try:
        check_resources(params)
        yield
    finally:
        ray.shutdown()


@contextmanager
def keep_signals() -> Iterator[None]:
    """Ray takes SIGTERM for itself when it starts; here it is an interrupt like any other."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before or signal.SIG_DFL)


def import_ray() -> Any:
    """The module `ray`. Raises EndpointError when it is not installed."""
    try:
        import ray
    except ImportError as error:
        raise EndpointError("executor is ray, and Ray is not installed",
                            "install requirements.ray.lock (`make ray` does), or set run.executor to local") from error
    return ray


def check_address(address: str) -> None:
    """Raises EndpointError when nothing listens at host:port; Ray would try for minutes, then end the process."""
    if address == "auto":
        return
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=CONNECT_S).close()
    except (OSError, ValueError) as error:
        raise no_cluster(address) from error


def no_cluster(address: str) -> EndpointError:
    """What to raise when there is no cluster at an address: 'auto' or host:port."""
    return EndpointError(f"there is no Ray cluster at {address}",
                         "start one (`ray start --head`), correct ray.address, or set run.executor to local")


def check_resources(params: RayParams) -> None:
    """Raises EndpointError when no node that is there could take an item: it would wait for ever."""
    import ray

    wanted = {"CPU": params.cpus, "GPU": params.gpus, "memory": (params.memory_mb or 0) * 2.0**20}
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    if not any(all(node.get(name, 0) >= amount for name, amount in wanted.items()) for node in nodes):
        asked = ", ".join(f"{amount:g} {name}" for name, amount in wanted.items() if amount)
        raise EndpointError(f"none of the {len(nodes)} nodes of the Ray cluster offers {asked}",
                            "lower the numbers in the section ray, or add a node")
