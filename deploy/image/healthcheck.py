"""Exit 0 if the node answers on /healthz, else 1 and one line. Standard library only: it runs every few seconds.

``ISCL_MONAI_HEALTH_URL`` (default ``http://127.0.0.1:8080/healthz``) says where; it must be this machine.
"""

from __future__ import annotations

import http.client
import os
import ssl
import sys
from urllib.parse import urlsplit


def main() -> str | None:
    """What is wrong, or None."""
    url = os.environ.get("ISCL_MONAI_HEALTH_URL") or "http://127.0.0.1:8080/healthz"
    place = urlsplit(url)
    if place.scheme not in ("http", "https") or not place.hostname:
        return f"ISCL_MONAI_HEALTH_URL is {url!r}; needed: http(s)://HOST:PORT/healthz"
    try:
        if place.scheme == "https":
            # The certificate is made out to the name that clients use, not to 127.0.0.1, and no secret is sent.
            context = ssl._create_unverified_context()
            connection: http.client.HTTPConnection = http.client.HTTPSConnection(
                place.hostname, place.port, timeout=4, context=context
            )
        else:
            connection = http.client.HTTPConnection(place.hostname, place.port, timeout=4)
        connection.request("GET", place.path or "/healthz")
        answer = connection.getresponse()
        body = answer.read(500).decode(errors="replace").strip()
    except (OSError, http.client.HTTPException) as error:
        return f"{url}: {error}"
    print(body)
    return None if answer.status == 200 else f"{url}: status {answer.status}"


if __name__ == "__main__":
    sys.exit(main())
