"""Run ansible-kernel 1.0.0, written for Python 3.7, on the Python and the Ansible of this image."""

from __future__ import annotations

import configparser
import warnings

# Gone from Python 3.12; what took their place takes the same arguments.
configparser.SafeConfigParser = configparser.ConfigParser  # type: ignore[attr-defined]
configparser.ConfigParser.readfp = configparser.ConfigParser.read_file  # type: ignore[attr-defined]
warnings.filterwarnings("ignore", message="pkg_resources is deprecated", category=UserWarning)

from ansible_kernel.kernel import AnsibleKernel  # noqa: E402
from ipykernel.kernelapp import IPKernelApp  # noqa: E402


class SeatAnsibleKernel(AnsibleKernel):
    """The kernel, without its debug log in the participant's home."""

    def do_execute_python(self, code: str) -> dict[str, object]:
        """Run a #python cell. Its variables become Ansible facts, which IPython's own `open` cannot."""
        self.shell.user_ns.pop("open", None)
        return super().do_execute_python(code)


if __name__ == "__main__":
    IPKernelApp.launch_instance(kernel_class=SeatAnsibleKernel)
