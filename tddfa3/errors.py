"""Errors a person can act on.

A program prints their text in one line and exits with code 2, without a traceback. Arrays of a
wrong shape or value raise ``ValueError`` instead: that is a mistake in the calling code.
"""


class UserError(Exception):
    """Something the user gave cannot be used; the message names it and the way out."""


class AssetError(UserError):
    """A bundle, or a file that should become one, is missing, damaged or unsafe."""


class UnavailableError(UserError):
    """An optional package or device that was asked for is not there."""
