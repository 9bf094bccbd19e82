# Jupyter Server of an appliance, beside what the seats' image sets. It is reached under the participant's login and by
# a published port, where there is one; both times with the token that was made for this lease.
import os
from pathlib import Path

c = get_config()  # noqa: F821

token = Path("/run/wod-appliance/secrets", os.environ["LAB_OPENED_BY"]).read_text()
c.IdentityProvider.token = token
c.ServerApp.ip = "0.0.0.0"  # noqa: S104 (a container's own network)
c.ServerApp.port = 8888
c.ServerApp.base_url = os.environ["WOD_BASE_PATH"] + "/lab/"
c.ServerApp.root_dir = str(Path.home() / "work")
c.ServerApp.open_browser = False
# The host name is the proxy's or the site's; the token is what lets in, and pages of others cannot read it.
c.ServerApp.allow_remote_access = True
