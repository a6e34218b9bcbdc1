"""LoadLimit (model 64900): a limit on what the site takes from the grid, which SunSpec has no model for.

A vendor model of this project, in the range that SunSpec leaves to vendors; docs/modbus-server.md has the
meaning of each point, examples/model_64900.json the definition in SunSpec's own form. Offsets count from the
ID register.
"""

from agent.model.sunspec.points import Model, Point, Type

LOAD_LIMIT = Model(
    name="LoadLimit",
    ids=(64900,),
    length=30,
    points=(
        Point(0, 1, "ID", Type.UINT16, mandatory=True),
        Point(1, 1, "L", Type.UINT16, mandatory=True),
        Point(2, 1, "State", Type.ENUM16),
        Point(3, 1, "Src", Type.ENUM16),
        Point(4, 2, "CtlHb", Type.UINT32, writable=True),
        Point(6, 2, "AgentHb", Type.UINT32),
        Point(8, 2, "ImpLimW", Type.UINT32, unit="W", writable=True),
        Point(10, 2, "ImpLimRvrtTms", Type.UINT32, unit="Secs", writable=True),
        Point(12, 1, "ImpLimRmpTms", Type.UINT16, unit="Secs", writable=True),
        Point(13, 1, "ImpLimEna", Type.ENUM16, writable=True),
        Point(14, 1, "CmdSeq", Type.UINT16, writable=True),
        Point(15, 1, "AckSeq", Type.UINT16),
        Point(16, 1, "AckStatus", Type.ENUM16),
        Point(17, 1, "RejectReason", Type.UINT16),
        Point(18, 2, "ImpLimRvrtRem", Type.UINT32, unit="Secs"),
        Point(20, 2, "FsImpLimW", Type.UINT32, unit="W", writable=True),
        Point(22, 2, "FsDurMin", Type.UINT32, unit="Secs", writable=True),
        Point(24, 2, "W", Type.INT32, unit="W"),
        Point(26, 2, "AchvMinW", Type.UINT32, unit="W"),
        Point(28, 2, "AchvMaxW", Type.UINT32, unit="W"),
        Point(30, 1, "Qual", Type.UINT16),
        Point(31, 1, "Pad", Type.PAD),
    ),
)
