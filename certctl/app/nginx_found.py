"""Find nginx's program and files on a host where the configuration does not say."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from certctl.config import Settings


def nginx_found(settings: "Settings") -> dict[str, str]:
    """Return the paths of an nginx that is not Debian's, by the ``[nginx]`` key that would set each.

    A key that was set is left alone; with ``[paths] root`` nothing is looked for.
    """
    from certctl.nginx.layout import look

    given = settings.nginx.model_fields_set
    if settings.paths.root or "binary" in given or (layout := look()) is None:
        return {}
    found = {"binary": layout.binary, "config": layout.config, "conf_dir": layout.conf_dir}
    return {key: str(path) for key, path in found.items() if key not in given}
