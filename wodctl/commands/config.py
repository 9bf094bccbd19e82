"""`wodctl config`: what the settings are, and whether they are right."""

import json

import click

from wodctl.commands.site import Site, pass_site


@click.group()
def config() -> None:
    """Show and check the settings of this site."""


@config.command()
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option("--origin", is_flag=True, help="Say where each value comes from.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
@pass_site
def show(site: Site, names: tuple[str, ...], origin: bool, as_json: bool) -> None:
    """Show effective settings, all or those named.

    \b
    Example:
      wodctl config show --origin WODBEPORT WODUSERMAX
    """
    values = {name: value for name, value in site.settings.variables.items() if not names or name in names}
    missing = [name for name in names if name not in values]
    if missing:
        raise click.UsageError(f"There is no setting {missing[0]}.")
    if as_json:
        document = {
            name: {"value": value, "origin": site.origins.get(name, "")} if origin else value
            for name, value in values.items()
        }
        click.echo(json.dumps(document, indent=1, sort_keys=True))
        return
    width = max(map(len, values), default=0)
    for name, value in values.items():
        text = value if isinstance(value, str) else json.dumps(value)
        where = f"   ({site.origins.get(name, 'fixed')})" if origin else ""
        click.echo(f"{name:{width}}  {text}{where}")


@config.command()
@pass_site
def validate(site: Site) -> None:
    """Check every layer of the configuration; says what is wrong with file and line.

    \b
    Example:
      wodctl config validate
    """
    count = len(site.settings.variables)
    click.echo(f"The configuration is valid: {count} settings for the group {site.settings.WODGROUP}.")
