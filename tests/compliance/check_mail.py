"""The mail service: who may speak, what it takes, to whom it hands that."""

import difflib
import re

from tests.compliance.facts import Facts
from tests.compliance.fixtures import PROCMAILRC
from wodctl.adapters.state import StateDirectory


def test_main_cf_is_the_sites(facts: Facts) -> None:
    """Postfix takes action mails from the site's networks, relays nothing and sends nothing."""
    seen = facts.inside("mail", "cat", "/etc/wod/postfix/main.cf")
    expected = StateDirectory(facts.state, facts.root).rendered(facts.settings)["postfix/main.cf"]
    said = differences(_without_networks(seen), _without_networks(expected))
    assert not said, said
    # Interfaces come and go: an address that the host has got since the last `up` is merely not let in yet.
    more = _networks(seen) - _networks(expected)
    assert not more, f"these may send action mails, too: {', '.join(sorted(more))}"


def test_master_cf_is_ours(facts: Facts) -> None:
    """Of Postfix's services there are those that taking mails needs, and no client that could send."""
    expected = (facts.root / "conf" / "postfix" / "master.cf").read_text()
    said = differences(facts.inside("mail", "cat", "/etc/postfix/master.cf"), expected)
    assert not said, said


def test_procmailrc_is_ours(facts: Facts) -> None:
    """Every mail goes to the one program that hands it to the intake, and procmailrc cannot be changed by it."""
    expected = (facts.root / "conf" / "procmail" / "procmailrc").read_text()
    said = differences(facts.inside("mail", "cat", PROCMAILRC), expected)
    assert not said, said
    mode = facts.inside("mail", "stat", "-c", "%U %a", PROCMAILRC).strip()
    assert mode == "root 644", f"{PROCMAILRC} is {mode}, expected root 644"


def differences(seen: str, expected: str) -> str:
    """Lines that are missing (-) or were added (+)."""
    lines = difflib.unified_diff(expected.splitlines(), seen.splitlines(), lineterm="", n=0)
    return "; ".join(line for line in lines if not line.startswith(("---", "+++", "@@")))


def _networks(text: str) -> set[str]:
    return {
        word for line in text.splitlines() if line.startswith("mynetworks =") for word in line.split()[2:]
    }


def _without_networks(text: str) -> str:
    """The same with one form of the first line that names networks; a second one is a difference."""
    return re.sub(r"^mynetworks = .*$", "mynetworks = …", text, count=1, flags=re.MULTILINE)
