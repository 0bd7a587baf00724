"""The errors a user can meet. Each message says what was wrong and what to do, in one line."""


class MeloEditError(Exception):
    """Base of every error that meloedit raises on purpose."""


class EditError(MeloEditError, ValueError):
    """An edit, or a line of a file of edits, is not usable."""


class ArgumentError(EditError, TypeError):
    """An argument of a call is of the wrong kind."""


class ModelError(MeloEditError, ValueError):
    """A model cannot be found, loaded or edited with these settings."""


class RoutingError(MeloEditError, ValueError):
    """A call on the edited model cannot be routed correctly, so it is refused."""


class StoreError(MeloEditError):
    """A store is missing, damaged, locked, of another format or of another model."""


class UnknownEditError(StoreError, KeyError):
    """A store has no edit with this id."""

    __str__ = Exception.__str__  # KeyError's puts the message in quotes
