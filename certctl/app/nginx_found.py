"""Where nginx is, on a host for which nobody said so."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from certctl.config import Settings


def nginx_found(settings: "Settings") -> dict[str, str]:
    """Return where nginx is on a host whose nginx is not Debian's, by the key that would say so.

    What somebody set stays. Below another root this host's nginx is not meant.
    """
    from certctl.nginx.layout import look

    given = settings.nginx.model_fields_set
    if settings.paths.root or "binary" in given or (layout := look()) is None:
        return {}
    found = {"binary": layout.binary, "config": layout.config, "conf_dir": layout.conf_dir}
    return {key: str(path) for key, path in found.items() if key not in given}
