"""Telling people what needs them: a command, a webhook, and a dead man's switch for the runs themselves."""

from certctl.notify.message import Happening, Message, What
from certctl.notify.notifier import Notifier, NotifySettings

__all__ = ["Happening", "Message", "Notifier", "NotifySettings", "What"]
