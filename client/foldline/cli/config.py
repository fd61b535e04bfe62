"""`foldline config`: this computer's settings."""

from __future__ import annotations

from cyclopts import App

from foldline import configuration
from foldline.cli.options import COMMON, Common, pairs
from foldline.cli.output import show
from foldline.cli.session import note
from foldline.problems import BadInput

app = App(name="config", help="This computer's settings: server, workspace, output.")
KEYS = ("workspace", "output", "url", "ca_file")


@app.command(name="set")
def set_(*settings: str) -> None:
    """Keep settings: workspace=NAME, output=table|json|tsv|yaml, url=URL, ca_file=FILE. An empty value forgets one."""
    given = pairs(settings, "the setting")
    if unknown := sorted(set(given) - set(KEYS)):
        raise BadInput(f"There is no setting {unknown[0]!r}; there are {', '.join(KEYS)}.", code="usage")
    if not given:
        raise BadInput("Give a setting: foldline config set workspace=NAME", code="usage")
    if given.get("output", "") not in ("", "table", "json", "tsv", "yaml"):
        raise BadInput(f"{given['output']!r} is no output; there are table, json, tsv, yaml.", code="usage")
    kept = configuration.load()
    if "url" in given:
        kept.url = configuration.normal_url(given["url"]) if given["url"] else None
    if "output" in given:
        kept.output = given["output"] or None
    _set_of_server(kept, {key: given[key] for key in ("workspace", "ca_file") if key in given})
    kept.save()
    note(f"Kept in {kept.path}.")


@app.command(name="show")
def show_(*, common: Common = COMMON) -> None:
    """Show what holds now; no token."""
    kept = configuration.load()
    found: dict[str, object] = {
        "file": str(kept.path),
        "url": None,
        "workspace": None,
        "logged_in": False,
        "output": kept.output or "table",
    }
    try:
        target = configuration.resolve()
    except BadInput:
        target = None
    if target is not None:
        found |= {"url": target.url, "workspace": target.workspace, "logged_in": bool(target.token), "ca_file": target.ca_file}
    show(found, common)


def _set_of_server(kept: configuration.Configuration, given: dict[str, str]) -> None:
    if not given:
        return
    server = kept.server(configuration.resolve(kept.url).url)
    for key, value in given.items():
        if value:
            server[key] = value
        else:
            server.pop(key, None)
