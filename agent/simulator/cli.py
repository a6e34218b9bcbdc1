"""``sterna-agent simulate``: a plant and its meters as a process of its own."""

import argparse
import asyncio
import logging
import os
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

from agent.simulator.faults import ComputeFile, FaultFile
from agent.simulator.forecast import ErrorModel, forecast, message
from agent.simulator.plant import Plant, SimTime
from agent.simulator.publish import run_publisher
from agent.simulator.site import UNITS, SimulatedSite, run_site
from agent.simulator.traces import PLACES, bundled, from_csv
from sterna.clock import Clock, SystemClock
from sterna.errors import ConfigError, SternaError
from sterna.notify import Notifier
from sterna.supervise import Pulse, RootTasks, supervise

log = logging.getLogger(__name__)

EXIT_USAGE = 2
# A slow fault or a busy machine delays a tick; a minute without one is a hang.
HEART_DEADLINE_S = 60.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what `run` reads."""
    add = parser.add_argument
    add("--site", required=True, help="site id: names the MQTT topic and the serial numbers")
    weather = parser.add_mutually_exclusive_group(required=True)
    weather.add_argument("--place", choices=PLACES, help="weather that ships with Sterna")
    weather.add_argument("--trace", type=Path, metavar="CSV", help="hourly columns pv_cf, wind_cf (0 to 1)")
    add("--pv-w", type=float, default=0.0, help="nameplate of the solar plant, W (default %(default)s)")
    add("--wind-w", type=float, default=0.0, help="nameplate of the wind plant, W (default %(default)s)")
    add(
        "--base-load-w", type=float, default=1000.0, help="load that is not Sterna's, W (default %(default)s)"
    )
    add(
        "--trace-start",
        type=_instant,
        required=True,
        metavar="TIME",
        help="instant of the trace to start at, UTC",
    )
    add(
        "--start-at",
        type=_instant,
        metavar="TIME",
        help="real instant at which the trace starts (default: now)",
    )
    add("--speedup", type=float, default=1.0, help="trace seconds in a real second (default %(default)s)")
    add("--bind", default="127.0.0.1", help="address of the Modbus server (default %(default)s)")
    add("--port", type=int, default=5020, help="its port (default %(default)s)")
    add("--load-meter", action="store_true", help="serve a load meter (model 213) as unit 3")
    add("--compute-power-path", type=Path, metavar="FILE", help="plain watts that the simulated nodes draw")
    add("--fault-path", type=Path, metavar="FILE", help='JSON such as {"grid": "dead"}; see the handbook')
    add(
        "--tick-s",
        type=float,
        default=0.25,
        help="between renewals of the registers, s (default %(default)s)",
    )
    _add_forecast_arguments(parser)


def _add_forecast_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("forecast over MQTT").add_argument
    add("--mqtt-host", help="broker; absent: no forecast is published")
    add("--mqtt-port", type=int, default=1883, help="(default %(default)s)")
    add("--mqtt-username", help="absent: anonymous")
    add("--mqtt-password-path", type=Path, metavar="FILE", help="its first line is the password")
    add("--forecast-horizon-h", type=float, default=24.0, help="trace hours ahead (default %(default)s)")
    add("--forecast-slot-h", type=float, default=0.5, help="trace hours in a slot (default %(default)s)")
    add(
        "--forecast-period-s",
        type=float,
        default=5.0,
        help="real seconds between issues (default %(default)s)",
    )
    add(
        "--forecast-error",
        type=float,
        default=1.0,
        help="scales the forecast error; 0: perfect (default %(default)s)",
    )
    add("--seed", type=int, default=0, help="of the forecast error (default %(default)s)")


def run(args: argparse.Namespace) -> int:
    """Serve until SIGTERM or SIGINT; returns the exit code."""
    try:
        return asyncio.run(_serve(args, SystemClock()))
    except ConfigError as error:
        log.error("the simulator cannot start", extra={"fault": str(error)})
        return EXIT_USAGE
    except SternaError as error:
        log.error("the simulator stopped", extra={"fault": str(error)})
        return 1


def build_site(args: argparse.Namespace, *, now: datetime) -> SimulatedSite:
    """Make the site that the arguments describe.

    Raises
    ------
    ConfigError
        A figure is out of range, or the weather cannot be read.
    """
    _check(args)
    trace = bundled(args.place) if args.place else from_csv(args.trace)
    plant = Plant(trace=trace, pv_w=args.pv_w, wind_w=args.wind_w, base_load_w=args.base_load_w)
    time = SimTime(
        start_at=now if args.start_at is None else args.start_at,
        trace_start_at=args.trace_start,
        speedup=args.speedup,
    )
    return SimulatedSite(
        name=args.site,
        plant=plant,
        time=time,
        compute=ComputeFile(args.compute_power_path),
        faults=FaultFile(args.fault_path, devices=frozenset(UNITS)),
        load_meter=args.load_meter,
    )


async def _serve(args: argparse.Namespace, clock: Clock) -> int:
    site = build_site(args, now=clock.now())
    site.tick(clock.now(), 0.0)
    pulse = Pulse(clock)
    async with site.server(args.bind, args.port) as server:
        log.info("plant is serving", extra={"site": args.site, "bind": args.bind, "port": server.port})
        return await supervise(
            _tasks(args, site, clock, pulse),
            notifier=Notifier.from_environment(os.environ),
            pulse=pulse,
            status=f"plant {args.site} on {args.bind}:{server.port}",
        )


def _tasks(args: argparse.Namespace, site: SimulatedSite, clock: Clock, pulse: Pulse) -> RootTasks:
    plant = partial(run_site, site, clock, args.tick_s, pulse.heart("plant", HEART_DEADLINE_S))
    if args.mqtt_host is None:
        return {"plant": plant}

    def make() -> Mapping[str, object]:
        now = clock.now()
        slots = forecast(
            site.plant,
            site.time,
            now=now,
            horizon=timedelta(hours=args.forecast_horizon_h),
            slot=timedelta(hours=args.forecast_slot_h),
            errors=_errors(args),
        )
        return message(slots, issued_at=now)

    publisher = partial(
        run_publisher,
        host=args.mqtt_host,
        port=args.mqtt_port,
        site_id=args.site,
        make=make,
        period_s=args.forecast_period_s,
        heart=pulse.heart("forecast", HEART_DEADLINE_S + args.forecast_period_s),
        username=args.mqtt_username,
        password=_password(args.mqtt_password_path),
    )
    return {"plant": plant, "forecast": publisher}


def _errors(args: argparse.Namespace) -> ErrorModel:
    plain = ErrorModel()
    return ErrorModel(
        seed=args.seed,
        sigma_start=plain.sigma_start * args.forecast_error,
        sigma_per_sqrt_hour=plain.sigma_per_sqrt_hour * args.forecast_error,
        sigma_max=plain.sigma_max * args.forecast_error,
    )


def _check(args: argparse.Namespace) -> None:
    positive = ("speedup", "tick_s", "forecast_horizon_h", "forecast_slot_h", "forecast_period_s")
    faults = [
        f"--{name.replace('_', '-')} must be above 0" for name in positive if not getattr(args, name) > 0
    ]
    never_negative = ("pv_w", "wind_w", "base_load_w", "forecast_error")
    faults += [
        f"--{name.replace('_', '-')} must not be negative"
        for name in never_negative
        if not getattr(args, name) >= 0
    ]
    if faults:
        raise ConfigError("\n".join(faults))


def _password(path: Path | None) -> str | None:
    if path is None:
        return None
    try:
        return path.read_text(encoding="utf-8").splitlines()[0]
    except (OSError, IndexError) as error:
        raise ConfigError(f"{path}: no password to read") from error


def _instant(text: str) -> datetime:
    instant = datetime.fromisoformat(text)
    return instant.replace(tzinfo=UTC) if instant.tzinfo is None else instant.astimezone(UTC)
