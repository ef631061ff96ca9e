"""Telling people what needs them: a command, a webhook, and a dead man's switch for the runs themselves."""

from certctl.notify.message import Alert, AlertKind, Message
from certctl.notify.notifier import Notifier, NotifySettings

__all__ = ["Alert", "AlertKind", "Message", "Notifier", "NotifySettings"]
