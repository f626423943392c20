"""Merges the settings that are mounted, as the image in compose.yaml does, and becomes Orthanc."""

import json
import os
from pathlib import Path

settings = {
    "StorageDirectory": "/var/lib/orthanc/db",
    "IndexDirectory": "/var/lib/orthanc/db",
    "RemoteAccessAllowed": True,
    "Plugins": ["/usr/share/orthanc/plugins"],
}
for folder in ("/etc/orthanc", "/run/secrets"):
    for path in sorted(Path(folder).glob("*.json")):
        settings |= json.loads(path.read_text())
Path("/tmp/orthanc.json").write_text(json.dumps(settings))
os.execv("/usr/sbin/Orthanc", ["Orthanc", "/tmp/orthanc.json"])
