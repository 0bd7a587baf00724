"""The errors a user can meet. Each message says what was wrong and what to do, in one line."""


class MeloEditError(Exception):
    """Base of every error that meloedit raises on purpose."""


class EditError(MeloEditError):
    """An edit, or a line of a file of edits, is not usable."""


class ModelError(MeloEditError):
    """A model cannot be found, loaded or edited with these settings."""


class RoutingError(MeloEditError):
    """A call on the edited model cannot be routed correctly, so it is refused."""


class StoreError(MeloEditError):
    """A store is missing, damaged, locked, of another format or of another model."""
