"""Common block: who made the device (model 1).

Written by scripts/make-sunspec-tables from sunspec/models (Apache-2.0) as pysunspec2 1.3.7 ships them.
Offsets count from the ID register.
"""

from agent.model.sunspec.points import Model, Point, Type

COMMON = Model(
    name="common",
    ids=(1,),
    length=66,
    points=(
        Point(0, 1, "ID", Type.UINT16, mandatory=True),
        Point(1, 1, "L", Type.UINT16, mandatory=True),
        Point(2, 16, "Mn", Type.STRING, mandatory=True),
        Point(18, 16, "Md", Type.STRING, mandatory=True),
        Point(34, 8, "Opt", Type.STRING),
        Point(42, 8, "Vr", Type.STRING),
        Point(50, 16, "SN", Type.STRING, mandatory=True),
        Point(66, 1, "DA", Type.UINT16, writable=True),
        Point(67, 1, "Pad", Type.PAD),
    ),
)
