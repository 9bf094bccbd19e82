"""`wodctl deliver`: a workshop into the home of a seat where somebody works."""

import json

import click

from wodctl.adapters.database import connect_as_operator
from wodctl.commands.action import became, document, ended
from wodctl.commands.site import Site, pass_site
from wodctl.errors import ActionFailed
from wodctl.model.order import DELIVER, Order, check_order
from wodctl.model.seat import BY_HAND

SECONDS = 300
"""Until the command ends without having seen the end of the delivery."""


@click.command()
@click.argument("workshop", metavar="WKSHP-NAME")
@click.option("--student", "number", metavar="N", type=click.IntRange(min=1), required=True, help="The seat.")
@click.option("--challenge", is_flag=True, help="As a challenge; CHLG-NAME says the same.")
@click.option("--json", "as_json", is_flag=True, help="Print the action as JSON.")
@pass_site
def deliver(site: Site, workshop: str, number: int, challenge: bool, as_json: bool) -> None:
    """Render a workshop and install it into the home of seat N, which must be ready.

    What the participant changed in the folder of that workshop is lost; everything else in his home, his lease and
    his server stay. He has the old folder or the new one, never half of it. A terminal or kernel that was started
    in the old folder has to be started again.

    \b
    Examples:
      wodctl deliver WKSHP-Welcome101 --student 3
      wodctl deliver WKSHP-Welcome101 --student 3 --challenge
    """
    name = (
        f"CHLG-{workshop.removeprefix('WKSHP-')}" if challenge and workshop.startswith("WKSHP-") else workshop
    )
    order = Order(DELIVER, number, number, BY_HAND, name)
    check_order(order, seat_min=site.settings.WODUSERMIN, seat_max=site.settings.WODUSERMAX)
    database = connect_as_operator(site.state)
    action = database.submit_action(order.action, number, number, order.customer, order.workshop, "cli")
    found = ended(database, action, SECONDS)
    if as_json:
        click.echo(json.dumps(document(found), indent=1))
    if found.state != "done":
        raise ActionFailed(f"The delivery {became(found)}: {found.reason}")
    if not as_json:
        click.echo(f"student{number} has {name}." + (f" {found.reason}" if found.reason else ""))
