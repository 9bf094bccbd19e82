"""What procmail runs for each mail: hands it to the service `intake`, and believes nothing but its word.

Called as `python3 -I -S file_mail.py SENDER CLIENT` with the mail on standard input. Ends with 0 when the row is
committed, and with 75 (EX_TEMPFAIL) whenever that is not certain: Postfix then keeps the mail and tries again.
"""

import os
import struct
import sys
import time
from _socket import AF_UNIX, SHUT_WR  # `socket` takes longer to import than all of this to run
from _socket import socket as Socket

SOCKET = "/run/intake/intake.sock"
LARGEST_MAIL = 128 * 1024
SECONDS = 40  # less than procmail waits
EX_TEMPFAIL = 75


def ask(sender: bytes, client: bytes, message: bytes) -> bytes:
    """What the intake says to this mail. Raises OSError if it is away or too slow."""
    end = time.monotonic() + SECONDS
    connection = Socket(AF_UNIX)
    connection.settimeout(SECONDS)
    connection.connect(SOCKET)
    lengths = struct.pack("!HHI", len(sender), len(client), len(message))
    connection.sendall(lengths + sender + client + message)
    connection.shutdown(SHUT_WR)
    said = b""
    while len(said) < 1000:
        connection.settimeout(max(end - time.monotonic(), 0.001))
        some = connection.recv(1000)
        if not some:
            break
        said += some
    return said


def main() -> int:
    """Hand over the mail on standard input; what goes to standard error ends up in Postfix's log."""
    try:
        sender, client = map(os.fsencode, sys.argv[1:3])
        message = sys.stdin.buffer.read(LARGEST_MAIL + 1)
        while sys.stdin.buffer.read(LARGEST_MAIL):
            pass  # procmail takes a pipe that is not read to its end for a failure
        said = ask(sender[:1024], client[:64], message)
        if said == b"Filed.":
            return 0
        print(ascii(said.decode("ascii", "replace")), file=sys.stderr)
    except Exception as problem:
        print("Not filed yet, no intake:", type(problem).__name__, *str(problem).split(), file=sys.stderr)
    return EX_TEMPFAIL


if __name__ == "__main__":
    sys.exit(main())
