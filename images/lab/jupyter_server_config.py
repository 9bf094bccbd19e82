# Jupyter Server of a seat. Participants' own configuration is not read (JUPYTERHUB_DISABLE_USER_CONFIG):
# nothing that somebody writes into his home may keep his server from starting. Settings of JupyterLab's
# menus are kept as usual.
import os

c = get_config()  # noqa: F821

c.Application.log_level = "WARN"  # a line for each request helps nobody and fills the log
c.ServerApp.terminado_settings = {"shell_command": ["/bin/bash", "-l"]}
c.ContentsManager.allow_hidden = True  # .ssh, .gitignore and the like are part of workshops

# The image is read-only, and nothing of it calls home.
c.LabApp.extension_manager = "readonly"
c.LabApp.news_url = None
c.LabApp.check_for_updates_class = "jupyterlab.NeverCheckForUpdate"
c.KernelSpecManager.ensure_native_kernel = False  # kernels live in an environment of their own

# Without JupyterLab the API would answer all the same, and the seat would be called ready.
c.ServerApp.reraise_server_extension_failures = True

# Where participants come by HTTPS, the cookie against forged requests keeps to it like all others.
if os.environ.get("JUPYTERHUB_PUBLIC_URL", "").startswith("https:"):
    c.ServerApp.tornado_settings = {
        "xsrf_cookie_kwargs": {"secure": True, "path": os.environ["JUPYTERHUB_SERVICE_PREFIX"]}
    }
