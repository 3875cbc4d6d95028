"""nginx: sites, default servers and the reverse proxy, changed only by what it has validated and proven live."""

from roles.nginx.role import (
    COMPRESSED,
    DROP_IN,
    IPV6,
    OPEN_FILES,
    PACKAGED,
    WEBROOT,
    certificate,
    configuration,
    configure,
    former_names,
    nginx,
    nginx_sandbox,
    nginx_with_certificates,
)

__all__ = [
    "COMPRESSED",
    "DROP_IN",
    "IPV6",
    "OPEN_FILES",
    "PACKAGED",
    "WEBROOT",
    "certificate",
    "configuration",
    "configure",
    "former_names",
    "nginx",
    "nginx_sandbox",
    "nginx_with_certificates",
]
