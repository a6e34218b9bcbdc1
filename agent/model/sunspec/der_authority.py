"""DER: who controls it, and the heartbeats (model 715).

Written by scripts/make-sunspec-tables from sunspec/models (Apache-2.0) as pysunspec2 1.3.7 ships them.
Offsets count from the ID register.
"""

from agent.model.sunspec.points import Model, Point, Type

DER_AUTHORITY = Model(
    name="DERCtl",
    ids=(715,),
    length=7,
    points=(
        Point(0, 1, "ID", Type.UINT16, mandatory=True),
        Point(1, 1, "L", Type.UINT16, mandatory=True),
        Point(2, 1, "LocRemCtl", Type.ENUM16),
        Point(3, 2, "DERHb", Type.UINT32),
        Point(5, 2, "ControllerHb", Type.UINT32, writable=True),
        Point(7, 1, "AlarmReset", Type.UINT16, writable=True),
        Point(8, 1, "OpCtl", Type.ENUM16, writable=True),
    ),
)
