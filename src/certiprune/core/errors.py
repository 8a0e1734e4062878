"""The errors that a user's input can cause; the command line prints them on one line and exits with status 2."""

import difflib
from collections.abc import Collection


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


class ProofError(CertipruneError):
    """A stored proof does not hold: it is about another network, or says more than follows."""


def hint(word: object, valid: Collection[str], *, cutoff: float = 0.6) -> str:
    """The end of an error about an unknown ``word``: the nearest of ``valid``, or all of them.

    ``cutoff`` in [0, 1] is how alike two words must be (``difflib``).
    """
    near = difflib.get_close_matches(str(word), valid, n=1, cutoff=cutoff)
    return f"did you mean {near[0]}?" if near else f"choose one of {', '.join(valid) or 'none'}"
