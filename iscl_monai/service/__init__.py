"""A DICOM node beside a PACS: series come in, are denoised by :func:`iscl_monai.inference.denoise_series`, and go back.

::

    receiver, web (STOW-RS) -> intake -> store (SQLite) -> completion, queue -> worker -> outbox -> sender -> confirmed
                                           ^ sweep retrieves what never came

Every state and every way between two states stands in :mod:`iscl_monai.service.database.states`. A crash at any moment
loses nothing that was acknowledged: each step is repeated until the next state is committed, and repeats add nothing,
since derived objects have the same UIDs every time.
"""
