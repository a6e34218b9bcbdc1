"""The site in Home Assistant."""

from agent.build.base import LOOP_DEADLINE_S, Build
from agent.build.files import broker_tls, secret
from agent.config.home_assistant import HomeAssistantTable
from agent.core.home_assistant import Announcement, figures
from agent.grid.home_assistant import HomeAssistant
from agent.tasks.liaison import News
from sterna import VERSION


def open_home_assistant(build: Build, news: News, table: HomeAssistantTable) -> None:
    """Make the link to the household's broker, and have it run."""
    site, base_dir = build.config.site, build.base_dir

    def now() -> dict[str, object]:
        snapshot = news.snapshot()
        return figures(
            news.desk.envelope(),
            snapshot.power,
            breaches=snapshot.breach_episodes,
            export_breaches=snapshot.export_breach_episodes,
            unachievable=snapshot.unachievable,
        )

    link = HomeAssistant(
        host=table.host,
        port=table.port,
        client_id=f"sterna-{site}-home-assistant",
        announcement=Announcement(
            site=site, version=VERSION, prefix=table.discovery_prefix, period_s=table.period_s
        ),
        figures=now,
        enabled=table.enabled,
        username=table.username or None,
        password=secret(base_dir, table.password_file),
        tls_context=broker_tls(table, base_dir, "home_assistant"),
        on_beat=build.pulse.heart("home-assistant", LOOP_DEADLINE_S + 2 * table.period_s).beat,
    )
    build.links["home_assistant"] = lambda: link.connected
    build.loops["home-assistant"] = link.run
