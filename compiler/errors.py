"""Errors a user can meet. Each message is one or two sentences: what was expected, what was found, what to do.

Everything here is caught by the command line, printed without a traceback, and ends with exit status 1. Anything else that
escapes is a defect of tapdot and keeps its traceback.
"""

from __future__ import annotations


class TapdotError(Exception):
    """The work failed for a reason the user can act on."""


class ModelError(TapdotError):
    """The model cannot be read, or says something no target can run."""


class GraphError(TapdotError):
    """A graph breaks one of its own rules; the message names the node."""


class InputError(TapdotError):
    """Data given to a model does not fit it."""


class PackageError(TapdotError):
    """A package file is damaged, truncated, or from another version."""


class TargetError(TapdotError):
    """The target is unknown or cannot serve a kernel."""


class DeviceError(TapdotError):
    """A device is not there, refused the session, or stopped answering."""


class BundleError(DeviceError):
    """What runs on a device cannot be built here: a tool, a library or a download is missing."""
