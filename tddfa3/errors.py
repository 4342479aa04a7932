"""Errors that a user can act on.

Programs print their text in one line and exit with code 2, without a traceback. Arrays of a wrong
shape or value raise ``ValueError`` instead, as they are mistakes in the calling code.
"""


class UserError(Exception):
    """The user's input cannot be used; the message names it and the way out."""


class AssetError(UserError):
    """A bundle, or a file that should become one, is missing, damaged or unsafe."""


class UnavailableError(UserError):
    """An optional package or device that was asked for is not available."""
