"""Training ISCL with MONAI and ignite: engine, optimisers, export, validation, checkpoints and guards."""

from iscl_monai.training.checkpoint import RunCheckpoint
from iscl_monai.training.export import Export, WeightAveraging, best_blend
from iscl_monai.training.fine_tuning import FineTuning
from iscl_monai.training.guard import CollapseGuard, GuardLimits
from iscl_monai.training.handlers import InOrder, LossBar, MetricsWriter, ModelWriter, TensorBoard
from iscl_monai.training.noise2void import Noise2Void
from iscl_monai.training.optim import LinearDecay, LookaheadRAdam
from iscl_monai.training.trainer import ISCLTrainer
from iscl_monai.training.twin import SupervisedTwin
from iscl_monai.training.validation import DenoisingEvaluator, Validation

__all__ = [
    "CollapseGuard",
    "DenoisingEvaluator",
    "Export",
    "FineTuning",
    "GuardLimits",
    "ISCLTrainer",
    "InOrder",
    "LinearDecay",
    "LookaheadRAdam",
    "LossBar",
    "MetricsWriter",
    "ModelWriter",
    "Noise2Void",
    "RunCheckpoint",
    "SupervisedTwin",
    "TensorBoard",
    "Validation",
    "WeightAveraging",
    "best_blend",
]
