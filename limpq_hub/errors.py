"""Every error of this package: what was given, why it cannot be, what to do instead."""

_SCALARS = (str, bytes, int, float, type(None))


def quoted(value: object) -> str:
    """Return `value` as a message may quote it: control characters escaped, at most 80 characters.

    A collection that is nested is named by its type alone: it may go on without end.
    """
    items = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple | set) else ()
    if any(not isinstance(item, _SCALARS) for item in items):
        return f"<{type(value).__name__}>"
    try:
        text = repr(value)
    except ValueError:  # an integer of more digits than Python prints
        text = f"<{type(value).__name__}>"
    return text if len(text) <= 80 else text[:77] + "..."


class LimpqError(Exception):
    """Root of every error that this package raises on purpose."""

    exit_code = 2


class BudgetError(LimpqError, ValueError):
    """A budget is not written in the grammar of `limpq_hub.Budget`."""


class InfeasibleBudgetError(LimpqError, ValueError):
    """No policy meets the budget.

    Attributes:
        requested: the limit that was asked for, in the units of `constraint`.
        minimum, maximum: between them a limit can be met and is of effect. The tightest that can be met beside the
            other constraints is the minimum; of a compression, which is met by more, the maximum.
        constraint: which constraint, in the words of `search`: "bitops", "size", "compression", ...
    """

    def __init__(self, message: str, *, requested: float, minimum: float, maximum: float, constraint: str) -> None:
        super().__init__(message)
        self.requested = requested
        self.minimum = minimum
        self.maximum = maximum
        self.constraint = constraint


class SearchError(LimpqError, RuntimeError):
    """The solver returned no proven optimum."""


class PolicyError(LimpqError, ValueError):
    """A policy does not fit the network, or is malformed."""


class OutputError(LimpqError, ValueError):
    """A result cannot be written in the form that was asked for."""


class InputFileError(LimpqError, OSError):
    """What stands at a path is no regular file, or larger than such a file can be."""

    exit_code = 3


class UnknownModelError(LimpqError, ValueError):
    """No artifact has this name."""


class UnsupportedLayerError(LimpqError, TypeError):
    """A layer cannot be quantized without changing what it computes."""


class ImageError(LimpqError, ValueError):
    """A file is not a picture that can be read."""

    exit_code = 3


class DataError(LimpqError, ValueError):
    """A data set is missing, empty, or does not fit the network."""

    exit_code = 3


class TrainingError(LimpqError, RuntimeError):
    """A training run cannot start or continue."""

    exit_code = 3


class ArtifactError(LimpqError, ValueError):
    """An artifact cannot be used."""

    exit_code = 5


class ArtifactFormatError(ArtifactError):
    """An artifact is malformed."""


class ArtifactVersionError(ArtifactFormatError):
    """An artifact is written in another version of its format than this one reads."""


class NotQuantizedError(ArtifactFormatError):
    """An artifact is a float network of timm: a training can start from it, and nothing was learned of it yet."""


class ArtifactIntegrityError(ArtifactError):
    """An artifact is not the file that its manifest describes."""


class UnsafeFileError(ArtifactError):
    """A file could execute code, or points outside its folder."""


class HubError(LimpqError, OSError):
    """The Hub did not give what was asked for.

    Attributes:
        client_error: what its client raised, by the name of the class, empty if nothing; the message says it in words.
    """

    exit_code = 6
    client_error = ""


class HubNotFoundError(HubError):
    """The Hub has no such repository, revision or file, or does not show it to this user."""


class HubUnauthorizedError(HubError):
    """The token is missing, not valid, or may not do this."""


class HubGatedError(HubError):
    """The repository is gated: its owner must grant access first."""


class HubRefusedError(HubError):
    """The Hub, or its content, does not allow what was asked for; nothing was changed."""


class HubMovedError(HubRefusedError):
    """Somebody else changed the branch after it was read; nothing was changed."""


class HubUnavailableError(HubError):
    """The Hub cannot be reached."""


class HubOfflineError(HubError):
    """Offline mode is on, and the file is not in the cache."""


class HubCacheError(HubError):
    """The cache of the Hub on this machine cannot be written."""
