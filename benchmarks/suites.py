"""What is measured in turns: each suite's contenders and workloads. In another, a name may stand for other steps."""

from __future__ import annotations

from calls import CALLERS
from contenders import CONTENDERS, Contenders
from ensembles import ENSEMBLERS
from gpu_compiled import GPU_COMPILERS
from gpu_contenders import GPU_CONTENDERS, GPU_FITTERS
from gpu_ensembles import GPU_ENSEMBLERS
from predictors import PREDICTORS
from sklearn_jobs import ESTIMATORS, FITS, Fit
from workloads import CALLS, ENSEMBLES, GPU_COMPILED, GPU_ENSEMBLES, GPU_FITS, GPU_STEPS, PREDICTIONS, STEPS, Workload

SUITES: dict[str, tuple[Contenders, dict[str, Workload] | dict[str, Fit]]] = {
    "step": (CONTENDERS, STEPS),
    "predict": (PREDICTORS, PREDICTIONS),
    "calls": (CALLERS, CALLS),
    "ensemble": (ENSEMBLERS, ENSEMBLES),
    "sklearn": (ESTIMATORS, FITS),
    "gpu step": (GPU_CONTENDERS, GPU_STEPS),
    "gpu compiled": (GPU_COMPILERS, GPU_COMPILED),
    "gpu fit": (GPU_FITTERS, GPU_FITS),
    "gpu ensemble": (GPU_ENSEMBLERS, GPU_ENSEMBLES),
}
