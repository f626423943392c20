"""What the node offers over HTTP: pages for people, STOW-RS for machines, health and metrics for monitoring.

Every request is checked first: who it is from (:mod:`~iscl_monai.service.web.guard`), that a form came from our own
pages, and how much is sent (:mod:`~iscl_monai.service.web.shield`). Every route names the role it needs.
"""
