"""JupyterLab of an appliance: the server of the seats' image without the hub."""

from wod_lab import leave_out_the_unused


def main() -> None:
    """Run the server until it is told to stop."""
    leave_out_the_unused()
    from jupyterlab.labapp import LabApp

    LabApp.launch_instance()


if __name__ == "__main__":
    main()
