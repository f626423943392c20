"""Exit code 0 if Orthanc answers; that it asks for a password is an answer."""

import urllib.error
import urllib.request

try:
    urllib.request.urlopen("http://127.0.0.1:8042/system", timeout=4)
except urllib.error.HTTPError as error:
    if error.code != 401:
        raise
