"""The base file: the catch-all servers for names without a server block, by mode; and the Lua file beside it."""

import os
from importlib.resources import files
from pathlib import Path

from certctl.nginx import mainconf
from certctl.nginx.command import NginxCommand
from certctl.nginx.serverblock import Version, common, render, sealed
from certctl.nginx.settings import NginxSettings
from certctl.values import Mode

CACHED = 10_000  # parsed certificates a worker keeps, of about 16 KB each (measured, nginx 1.22.1 with Lua 0.10.23)
_LONGEST_SOCKET = 107  # unix(7): sun_path is 108 bytes with its NUL, and nginx does not start with a longer one
_PATIENT_SHARE = 8  # a handshake that waits holds three of its worker's connections, and known names need theirs
_CHAIN = "{}/$certctl_sni/current/fullchain.pem"  # as templates/catch_all.conf.j2 has it
CERTIFICATE_CACHE: Version = (1, 27, 4)  # nginx CHANGES 1.27.4: ssl_certificate_cache


def base_files(settings: NginxSettings, command: NginxCommand) -> dict[Path, str | None]:
    """Return (path → text) of the base file and the Lua file; None as text of a file this mode does not use.

    The Lua file comes first: the base file names it.

    Raises:
        ConfigInvalid: ``config-invalid`` when a value may not stand in nginx's text.
        WebServerFailed: ``nginx-missing``.
    """
    lua = files("certctl.nginx").joinpath("lua", settings.lua_path.name).read_text(encoding="utf-8")
    return {
        settings.lua_path: lua if settings.mode is Mode.LUA else None,
        settings.base_path: base_file(settings, command.version, command.build),
    }


def serves_the_mirror(settings: NginxSettings, base: str | None) -> bool:
    """Tell whether an installed base file makes nginx serve names of the mirror without a server block.

    The base file's own directive decides, not the configuration: so the answer is right for a file of an older
    certctl, and for one that was edited by hand.
    """
    return any(
        line.strip() == f"ssl_certificate {_CHAIN.format(settings.live)};" for line in (base or "").splitlines()
    )


def base_file(settings: NginxSettings, version: Version, build: str = "") -> str:
    """Return the base file's text: the catch-all on port 80, and the one for TLS, which refuses unknown names.

    The hash sizes are left out when the operator's main file sets them: nginx refuses a duplicate directive.
    ``ssl_reject_handshake`` needs nginx 1.19.4.

    Raises:
        ConfigInvalid: ``config-invalid`` when a value may not stand in nginx's text.
    """
    operators = mainconf.settings_of(settings.config)
    values = {
        "hash_sizes": not operators & {"server_names_hash_bucket_size", "server_names_hash_max_size"},
        "mode": settings.mode,
        "live": settings.live,
        "socket": settings.socket,
        "has_daemon": len(os.fsencode(settings.socket)) <= _LONGEST_SOCKET,
        "miss_socket": settings.miss_socket,
        "lua_file": settings.lua_path,
        "error_log": mainconf.own_error_log(settings.config, build),
        "cached": CACHED,
        "patient": mainconf.worker_connections(settings.config) // _PATIENT_SHARE,
        "certificate_cache": version >= CERTIFICATE_CACHE,
    }
    return sealed("", render("base.conf.j2", common(settings, version) | values))
