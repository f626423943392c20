"""Low-dose CT denoising with ISCL (interdependent self-cooperative learning) on MONAI."""

__version__ = "0.1.0"
