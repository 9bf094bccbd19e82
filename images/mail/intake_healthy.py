"""Whether the intake answers on its socket."""

import socket
import sys

with socket.socket(socket.AF_UNIX) as connection:
    connection.settimeout(4)
    connection.connect("/run/intake/intake.sock")
    connection.shutdown(socket.SHUT_WR)
    if connection.recv(100) != b"Here.":
        sys.exit("Something else answers.")
