"""One pydantic model per stage: the names, types, ranges, defaults and descriptions of every parameter.

A notebook's parameters cell holds the same names as literals; `params/*.yaml` holds them as sections. A parameter is
described once, in its field: the comments in params/base.yaml and in the notebooks' cells are written from there.
"""

from synthkit.core.params.base import RayParams, Resume, SpreadParams, StageParams, Strict, WorkParams
from synthkit.core.params.services import HubParams, SandboxParams, StudentParams, TeacherParams
from synthkit.core.params.stages import (
    STAGES,
    CodegenParams,
    DatasetsParams,
    LoraParams,
    MlgymEvalParams,
    ReplyFormat,
    ScratchParams,
    SelfDebugParams,
    SftParams,
    TopicsParams,
    TrajectoriesParams,
)

__all__ = [
    "STAGES", "CodegenParams", "DatasetsParams", "HubParams", "LoraParams", "MlgymEvalParams", "RayParams",
    "ReplyFormat", "Resume", "SandboxParams", "ScratchParams", "SelfDebugParams", "SftParams", "SpreadParams",
    "StageParams", "Strict", "StudentParams", "TeacherParams", "TopicsParams", "TrajectoriesParams", "WorkParams",
]
