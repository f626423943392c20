"""Messages between the node and its worker process; a module of its own, since the worker's needs torch."""

from __future__ import annotations

WAKE = "wake"  # to standard input: there may be a job
STOP = "stop"  # to standard input: put the job back into the queue, and end
READY = "worker.ready"  # event in the log: the model is loaded
MODEL_REFUSED = 2  # exit code: the model cannot be used, which starting again cannot cure
MODEL_FAULT = 4  # exit code: loading the model failed in a way nobody foresaw; it may be cured
