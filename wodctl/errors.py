"""What can go wrong, each with its own exit code: the sentence is for the operator, the hint says what to do."""


class WodError(Exception):
    """A failure that the operator can understand and act on; `wodctl` prints it and exits with `exit_code`."""

    exit_code = 1

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class UsageProblem(WodError):
    """The command was called with words that make no sense together."""

    exit_code = 2


class ConfigProblem(WodError):
    """A setting is unknown, of the wrong type or out of range."""

    exit_code = 3


class EngineProblem(WodError):
    """The Docker Engine is absent, refuses us, or could not do what was asked."""

    exit_code = 4


class StackProblem(WodError):
    """The services of the stack do not run, or do not run as they should."""

    exit_code = 5


class ActionFailed(WodError):
    """An action on a seat was refused or failed."""

    exit_code = 6


class Unavailable(WodError):
    """Something that we need is away for the moment; the same call may succeed later."""

    exit_code = 7


class ContentProblem(WodError):
    """A workshop's content is not as it must be."""

    exit_code = 8
