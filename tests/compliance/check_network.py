"""The networks of the stack and the packet rules between them."""

from tests.compliance.facts import Facts


def test_the_seats_packet_rules_are_in_place(facts: Facts) -> None:
    """The firewall's own check finds its rules, and the kernel applies them to bridges."""
    facts.inside("firewall", "wod-firewall", "check")


def test_nothing_passes_before_the_packet_rules(facts: Facts) -> None:
    """No rule before ours lets a packet of the seats' network by."""
    bridge = facts.environment["WOD_SEAT_BRIDGE"]
    wrong = []
    for chain, ours in (("DOCKER-USER", {f"-i {bridge}", f"-o {bridge}"}), ("INPUT", {f"-i {bridge}"})):
        missing = set(ours)
        for rule in facts.packet_rules(chain):
            found = {match for match in missing if rule.startswith(f"-A {chain} {match} -j {bridge}-")}
            missing -= found
            others = " -i " in rule and f" -i {bridge} " not in rule and f" -o {bridge} " not in rule
            if missing and not found and not others and rule.endswith(("-j ACCEPT", "-j RETURN")):
                wrong.append(rule)
    assert not wrong, "; ".join(wrong)


def test_networks_are_as_agreed(facts: Facts) -> None:
    """Networks without a way out have none, and in the seats' network nobody reaches anybody by default."""
    wrong = []
    wanted = {n for s in facts.services for n in facts.stack["services"][s].get("networks", {})}
    for name in sorted(wanted):
        spec = facts.stack["networks"][name]
        found = facts.networks.get(spec["name"])
        if found is None:
            wrong.append(f"{name} is not there")
            continue
        if found["Internal"] != spec.get("internal", False):
            wrong.append(f"{name}: {'no' if spec.get('internal') else 'without a'} way out was expected")
        options = spec.get("driver_opts", {})
        wrong += [
            f"{name}: {key} is {found['Options'].get(key)}"
            for key in options
            if found["Options"].get(key) != options[key]
        ]
        subnets = [one["Subnet"] for one in found["IPAM"]["Config"]]
        expected = [one["subnet"] for one in spec.get("ipam", {}).get("config", [])]
        if expected and subnets != expected:
            wrong.append(f"{name} is {', '.join(subnets)}")
    assert not wrong, "; ".join(wrong)


def test_nobody_else_is_in_our_networks(facts: Facts) -> None:
    """Only containers of this stack are in its networks."""
    ours = {one["Id"] for one in facts.containers}
    names = {spec["name"] for spec in facts.stack["networks"].values()}
    wrong = [
        f"{member['Name']} in {name}"
        for name in sorted(names & set(facts.networks))
        for identity, member in facts.networks[name]["Containers"].items()
        # Whoever comes while we look, or is one of our own probes, is known by its name.
        if identity not in ours and not member["Name"].startswith(f"{facts.project}-")
    ]
    assert not wrong, "; ".join(wrong)
