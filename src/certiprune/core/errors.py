"""The errors that a user's input can cause; the command line prints them on one line and exits with status 2."""


class CertipruneError(Exception):
    """Something a user can mend: the message says what was wrong, where, and what to do."""


class InputError(CertipruneError):
    """Wrong arguments, images, epsilons or files."""


class DataError(CertipruneError):
    """A dataset or file of data is missing or damaged."""


class ModelError(CertipruneError):
    """A model holds an unsupported operator, non-finite weights, or does not fit its input."""


class ConfigError(CertipruneError):
    """An experiment file is not valid."""


class LoweringError(ModelError):
    """The bounded network does not compute what the model computes."""
