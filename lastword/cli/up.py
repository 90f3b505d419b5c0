"""`lastword up`: runs the whole product on this machine, on embedded defaults."""

from __future__ import annotations

import os
import signal
import sys
import threading
from pathlib import Path
from types import FrameType

import click
from rich.console import Console
from rich.text import Text

from lastword.cli.supervise import Program, StartError, Supervisor

_COLOURS = {"collector": "cyan", "service": "green", "dashboard": "magenta"}
_FIRST_QUESTION = "why is my stream partial?"


class Addresses:
    """Where the three programs listen, from the settings and the flags."""

    def __init__(self, collector_port: int, grpc_port: int, service_port: int, dashboard_port: int) -> None:
        self.grpc_port = grpc_port
        self.ports = {"collector": collector_port, "service": service_port, "dashboard": dashboard_port}
        self.collector, self.service, self.dashboard = (f"http://127.0.0.1:{port}" for port in self.ports.values())

    def environment(self, data_dir: str) -> dict[str, str]:
        """The settings that make the programs find each other."""
        ports = {f"LASTWORD_{name.upper()}_PORT": str(port) for name, port in self.ports.items()}
        return {
            "LASTWORD_DATA_DIR": str(Path(data_dir).expanduser().absolute()),
            "LASTWORD_SERVICE_COLLECTOR_URL": self.collector,
            "LASTWORD_DASHBOARD_COLLECTOR_URL": self.collector,
            "LASTWORD_DASHBOARD_SERVICE_URL": self.service,
            "LASTWORD_SERVICE_DASHBOARD_URL": self.dashboard,
            "LASTWORD_COLLECTOR_DASHBOARD_URL": self.dashboard,
            "LASTWORD_COLLECTOR_GRPC_PORT": str(self.grpc_port),
            **ports,
        }

    def programs(self) -> list[Program]:
        """The three programs."""
        return [
            Program(
                name="collector", module="collector", port=self.ports["collector"], health=f"{self.collector}/health/ready"
            ),
            Program(name="service", module="service", port=self.ports["service"], health=f"{self.service}/health/ready"),
            Program(
                name="dashboard", module="dashboard", port=self.ports["dashboard"], health=f"{self.dashboard}/_stcore/health"
            ),
        ]


_PORT = click.IntRange(1, 65535)


@click.command()
@click.option(
    "--collector-port", envvar="LASTWORD_COLLECTOR_PORT", type=_PORT, default=4318, show_default=True, help="OTLP/HTTP and SQL."
)
@click.option(
    "--grpc-port",
    envvar="LASTWORD_COLLECTOR_GRPC_PORT",
    type=click.IntRange(0, 65535),
    default=4317,
    show_default=True,
    help="The collector's OTLP/gRPC; 0 turns it off.",
)
@click.option(
    "--service-port", envvar="LASTWORD_SERVICE_PORT", type=_PORT, default=8000, show_default=True, help="The turn service."
)
@click.option(
    "--dashboard-port", envvar="LASTWORD_DASHBOARD_PORT", type=_PORT, default=8501, show_default=True, help="The dashboard."
)
@click.option("--data-dir", envvar="LASTWORD_DATA_DIR", default="data", show_default=True, help="Where everything is stored.")
@click.option("--follow-parent", is_flag=True, help="End when the process that started this one ends, as `make up` does.")
def up(collector_port: int, grpc_port: int, service_port: int, dashboard_port: int, data_dir: str, follow_parent: bool) -> None:
    """Run collector, service and dashboard on loopback, until Ctrl-C.

    Needs no key, account or server. Other settings are environment variables: see docs/settings.md.
    """
    parent = os.getppid() if follow_parent else None  # read first: it may end while the programs start
    addresses = Addresses(collector_port, grpc_port, service_port, dashboard_port)
    console = Console(highlight=False, soft_wrap=True)
    stop = threading.Event()

    def on_signal(_number: int, _frame: FrameType | None) -> None:
        if stop.is_set():  # a second Ctrl-C: the person does not want to wait
            supervisor.kill()
        stop.set()

    def show(name: str, line: str) -> None:
        text = Text(f"{name:>9} | ", style=_COLOURS[name])
        text.append(line, style="default")
        console.print(text)

    supervisor = Supervisor(addresses.programs(), {**os.environ, **addresses.environment(data_dir)}, show)
    signal.signal(signal.SIGINT, on_signal)
    signal.signal(signal.SIGTERM, on_signal)
    status = 0
    try:
        supervisor.check_ports()
        console.print("starting collector, service and dashboard …")
        supervisor.start()
        if supervisor.wait_ready(stop):
            _greet(console, addresses)
            died = supervisor.watch(stop, parent=parent)
            if died is not None:
                console.print(f"the {died} ended by itself; stopping the others", style="red")
                status = 1
    except StartError as error:
        console.print(f"lastword up: {error}", style="red", markup=False)
        status = 1
    finally:
        supervisor.stop()
    console.print("stopped")
    sys.exit(status)


def _greet(console: Console, addresses: Addresses) -> None:
    command = Path(sys.executable).with_name("lastword")
    shown = command.relative_to(Path.cwd()) if command.is_relative_to(Path.cwd()) else command
    prefix = "" if addresses.ports["service"] == 8000 else f"LASTWORD_SERVICE_URL={addresses.service} "
    console.print("\nLastword is up.", style="bold")
    for name, url in (("dashboard", addresses.dashboard), ("service", addresses.service), ("collector", addresses.collector)):
        console.print(f"  {name:<10} {url}")
    if addresses.grpc_port:
        console.print(f"  {'OTLP/gRPC':<10} http://127.0.0.1:{addresses.grpc_port}")
    console.print(f"\nAsk something in a browser, at {addresses.service}/try, or in another shell:")
    console.print(f'  {prefix}{shown} ask "{_FIRST_QUESTION}"', markup=False)
    console.print("\nCtrl-C stops everything. Logs follow.\n")
