"""An archive denoised by many workers on Ray: planned, handed out, recorded, resumed."""
