"""Alerts to people: by a command, a webhook, and a dead man's switch that is pinged after each run."""

from certctl.notify.message import Alert, AlertKind, Message
from certctl.notify.notifier import Notifier, NotifySettings

__all__ = ["Alert", "AlertKind", "Message", "Notifier", "NotifySettings"]
