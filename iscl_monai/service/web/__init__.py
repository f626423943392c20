"""What the node offers over HTTP: pages for people, STOW-RS for machines, health and metrics for whoever watches it.

Everything is checked at the door: who it is (:mod:`~iscl_monai.service.web.guard`), that a form came from our own
pages, and how much is sent (:mod:`~iscl_monai.service.web.shield`). Every route names the role it needs.
"""
