"""From a complete series to derived files: completion, queue, the worker process, recovery and retention."""
