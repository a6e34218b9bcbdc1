"""`sterna replay`: recorded traces through the production planner, every policy side by side."""

import csv
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Annotated

import typer

from coordinator.model.import_cost import Objective
from sterna.errors import ConfigError, CorruptError

if TYPE_CHECKING:
    from coordinator.replay.evaluation import Outcome
    from coordinator.replay.foresight import MakeForesight
    from coordinator.replay.journal import Interval
    from coordinator.replay.scenariofile import ScenarioFile, Traces
    from coordinator.replay.world import World

JOURNAL = "decisions.jsonl"
TRANSFERS = "transfers.jsonl"
LEDGER = "ledger.csv"
ABOUT = "replay.json"


def command(
    scenario: Annotated[
        str, typer.Argument(help="One that ships (us5, us5-thin, us5-diloco, …) or a file.")
    ] = "us5",
    policy: Annotated[
        str, typer.Option(help="Names, comma separated; oracle: knows all that is to come.")
    ] = "static,feasibility-aware",
    data: Annotated[Path, typer.Option(help="Folder of the recorded traces; docs/traces.md.")] = Path(
        "../shared/data"
    ),
    period: Annotated[str, typer.Option(help="Names, comma separated; all: every one.")] = "all",
    offsets: Annotated[str, typer.Option(help="Of the job trace: 0,1 or 0..3; all: every one.")] = "0",
    forecast: Annotated[str, typer.Option(help="perfect, learnt or persistence.")] = "perfect",
    objective: Annotated[
        Objective, typer.Option(help="What sterna saves: energy, or its CO2, or its price; docs/planning.md.")
    ] = Objective.ENERGY,
    clairvoyant: Annotated[bool, typer.Option(help="Jobs declare their work.")] = False,
    threshold_w: Annotated[
        float | None, typer.Option(help="Surplus below this counts as none; default: the scenario's.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder for journals, figures, timelines and pictures.")
    ] = None,
    verify: Annotated[
        Path | None, typer.Option(help="Recompute the figures of such a folder instead, and compare.")
    ] = None,
) -> None:
    """Replay recorded days under several policies.

    With --verify, check what a replay wrote instead.
    """
    if verify is not None:
        _verify(verify, data)
        return
    from coordinator.replay.evaluation import table
    from coordinator.replay.scenariofile import read_traces

    if not data.is_dir():
        raise ConfigError(f"{data}: no such folder; --data names the one with the traces (docs/traces.md)")
    chosen = _scenario(scenario, threshold_w)
    asked = _Asked(
        scenario=scenario,
        threshold_w=threshold_w,
        policies=tuple(name.strip() for name in policy.split(",")),
        forecast=forecast,
        objective=objective,
        clairvoyant=clairvoyant,
        offsets=_offsets(offsets, chosen),
        out=out,
    )
    traces = read_traces(chosen, data)
    sys.stderr.writelines(f"sterna: {note}\n" for note in traces.notes)
    periods = list(chosen.periods) if period == "all" else period.split(",")
    foresight = _foresight(forecast)
    found = {name: _replay(asked, chosen, traces, name, foresight) for name in periods}
    text = table(found)
    if chosen.battery is not None:
        text += "\n\n" + _batteries(asked, chosen, traces, found, foresight)
    if out is not None:
        (out / "table.md").write_text(text + "\n", encoding="utf-8")
    typer.echo(text)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asked:
    """What the command line asks for."""

    scenario: str
    threshold_w: float | None
    policies: tuple[str, ...]
    forecast: str
    objective: Objective
    clairvoyant: bool
    offsets: Sequence[int]
    out: Path | None


def _replay(
    asked: _Asked, chosen: "ScenarioFile", traces: "Traces", period: str, foresight: "MakeForesight"
) -> "list[Outcome]":
    from coordinator.replay import pictures
    from coordinator.replay.accounts import accounts, write_accounts
    from coordinator.replay.evaluation import outcomes
    from coordinator.replay.oracle import ORACLE
    from coordinator.replay.scenariofile import world_of

    found = []
    runs: dict[str, list[tuple[World, Sequence[Interval]]]] = {}
    for offset in asked.offsets:
        world = replace(world_of(chosen, traces, period, offset), objective=asked.objective)
        if asked.objective is not Objective.ENERGY and not any(map(world.cost_of, world.sites)):
            raise ConfigError(
                f"{chosen.name}: objective {asked.objective.value}: no site names a trace of its "
                f"{asked.objective.value} (docs/traces.md)"
            )
        for outcome in outcomes(world, asked.policies, foresight, declared=asked.clairvoyant):
            found.append(outcome)
            if asked.out is not None:
                about = {
                    "scenario": asked.scenario,
                    "threshold_w": asked.threshold_w,
                    "period": period,
                    "offset": offset,
                    "policy": outcome.policy,
                    "forecast": "perfect" if outcome.policy == ORACLE else asked.forecast,
                    "objective": asked.objective.value,
                    "clairvoyant": asked.clairvoyant or outcome.policy == ORACLE,
                }
                folder = asked.out / period / f"{offset}-{outcome.policy}"
                _write(folder, world, outcome, about)
                write_accounts(folder / LEDGER, accounts(world, outcome.record.intervals))
                runs.setdefault(outcome.policy, []).append((world, outcome.record.intervals))
        sys.stderr.write(f"sterna: {chosen.name} {period} offset {offset} replayed\n")
    if asked.out is not None:
        moved_wh = {
            policy: [one.metrics.network_wh for one in found if one.policy == policy] for policy in runs
        }
        network_wh = {policy: fmean(values) for policy, values in moved_wh.items()}
        energy = pictures.energy_by_source(runs, network_wh)
        (asked.out / period / "energy.svg").write_text(energy, encoding="utf-8")
        (asked.out / period / "completion.svg").write_text(pictures.completions(runs), encoding="utf-8")
    return found


def _batteries(
    asked: _Asked,
    chosen: "ScenarioFile",
    traces: "Traces",
    found: "Mapping[str, Sequence[Outcome]]",
    foresight: "MakeForesight",
) -> str:
    """Return what the sites' batteries really did under each policy, as a table."""
    import msgspec

    from coordinator.replay.batteries import Counted, Worths, balance, by_price, plain, table
    from coordinator.replay.scenariofile import world_of

    assert chosen.battery is not None  # whoever calls has looked
    bare, battery = msgspec.structs.replace(chosen, battery=None), chosen.battery.battery()
    made: dict[tuple[str, str, str], list[Counted]] = {}
    currency = ""
    for period, outcomes in found.items():
        each = len(outcomes) // len(asked.offsets)
        for place, outcome in enumerate(outcomes):
            world = world_of(bare, traces, period, asked.offsets[place // each])
            orders: dict[str, Worths] = {"energy": plain}
            currency = world.currency
            if currency:
                priced = replace(world, objective=Objective.PRICE)
                orders["price"] = by_price(priced, foresight(priced), battery)
            for order, worths in orders.items():
                made.setdefault((period, outcome.policy, order), []).append(
                    Counted(
                        balance=balance(world, outcome.record.intervals, battery, worths),
                        network_wh=outcome.metrics.network_wh,
                    )
                )
    return table(made, currency)


def _scenario(name: str, threshold_w: float | None) -> "ScenarioFile":
    import msgspec

    from coordinator.replay.scenariofile import read_scenario

    scenario = read_scenario(name)
    if threshold_w is None:
        return scenario
    surplus = msgspec.structs.replace(scenario.surplus, threshold_w=threshold_w)
    return msgspec.structs.replace(scenario, surplus=surplus)


def _foresight(name: str) -> "MakeForesight":
    from coordinator.forecast.persistence import PersistenceForecaster
    from coordinator.replay.foresight import Forecasted, Perfect
    from coordinator.replay.learnt import LearntSource

    if name == "perfect":
        return Perfect
    if name == "learnt":
        return LearntSource()
    if name == "persistence":
        forecaster = PersistenceForecaster(
            horizon_s=86_400.0, slot_s=3600.0, spread_frac_per_s=1.0 / 86_400.0
        )
        return lambda world: Forecasted(world, forecaster)
    raise ConfigError(f"forecast {name}: expected perfect, learnt or persistence")


def _offsets(text: str, scenario: "ScenarioFile") -> Sequence[int]:
    if text == "all":
        return scenario.offsets
    try:
        first, dots, last = text.partition("..")
        offsets = range(int(first), int(last) + 1) if dots else [int(number) for number in text.split(",")]
    except ValueError as error:
        raise ConfigError(f"offsets {text}: expected numbers like 0,2 or 0..3, or all") from error
    if not offsets:
        raise ConfigError(f"offsets {text}: none; expected numbers like 0,2 or 0..3, or all")
    return offsets


def _write(folder: Path, world: "World", outcome: "Outcome", about: Mapping[str, object]) -> None:
    from coordinator.replay import pictures
    from coordinator.replay.journal import write_journal
    from coordinator.replay.timeline import timeline
    from coordinator.replay.transfers import write_transfers

    folder.mkdir(parents=True, exist_ok=True)
    write_journal(folder / JOURNAL, world, outcome.record.intervals)
    if world.tells_transfers:
        write_transfers(folder / TRANSFERS, world, outcome.record.transfers)
    document = {**about, "figures": outcome.figures()}
    (folder / ABOUT).write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    lines = timeline(world, outcome.record.intervals)
    domain = pictures.feasible_domain(world, outcome.record.intervals, outcome.policy)
    (folder / "placement.svg").write_text(pictures.placement(world, lines, outcome.policy), encoding="utf-8")
    (folder / "domain.svg").write_text(domain, encoding="utf-8")
    with (folder / "timeline.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(field.name for field in fields(lines[0]))
        writer.writerows([getattr(line, field.name) for field in fields(line)] for line in lines)


def _verify(folder: Path, data: Path) -> None:
    """Recompute every replay under a folder from its journal and the raw data."""
    from coordinator.replay.scenariofile import read_traces

    abouts = sorted(folder.rglob(ABOUT))
    if not abouts:
        raise ConfigError(f"{folder}: no {ABOUT} in it")
    known: dict[tuple[str, float | None], tuple[ScenarioFile, Traces]] = {}
    wrong = 0
    for path in abouts:
        about = json.loads(path.read_text(encoding="utf-8"))
        key = (about["scenario"], about["threshold_w"])
        if key not in known:
            scenario = _scenario(*key)
            known[key] = (scenario, read_traces(scenario, data))
        differing = _differences(path.parent, about, *known[key])
        wrong += bool(differing)
        typer.echo(f"{'differs' if differing else 'agrees '} {path.parent.relative_to(folder)}")
        for line in differing:
            typer.echo(f"    {line}")
    if wrong:
        raise CorruptError(f"{wrong} of {len(abouts)} replays differ from their journals")


def _differences(
    folder: Path, about: Mapping[str, object], scenario: "ScenarioFile", traces: "Traces"
) -> list[str]:
    from coordinator.replay.evaluation import figures_of
    from coordinator.replay.journal import read_journal
    from coordinator.replay.scenariofile import world_of
    from coordinator.replay.transfers import read_transfers
    from coordinator.replay.verify import recompute

    world = world_of(scenario, traces, str(about["period"]), int(str(about["offset"])))
    try:
        again = recompute(
            world, read_journal(folder / JOURNAL, world), read_transfers(folder / TRANSFERS, world)
        )
    except CorruptError as error:
        return str(error).splitlines()
    stated = about["figures"]
    assert isinstance(stated, dict)
    return [
        f"{name}: {stated[name]!r} is stated, {value!r} was counted"
        for name, value in figures_of(again).items()
        # A folder of an earlier version states fewer figures.
        if name in stated
        if _differ(stated[name], value)
    ]


def _differ(stated: float | None, value: float | None) -> bool:
    if stated is None or value is None:
        return stated is not value
    return abs(stated - value) > 1e-6 * max(1.0, abs(value))
