"""DER: when it may enter service (model 703).

Written by scripts/make-sunspec-tables from sunspec/models (Apache-2.0) as pysunspec2 1.3.7 ships them.
Offsets count from the ID register.
"""

from agent.model.sunspec.points import Model, Point, Type

DER_ENTER_SERVICE = Model(
    name="DEREnterService",
    ids=(703,),
    length=17,
    points=(
        Point(0, 1, "ID", Type.UINT16, mandatory=True),
        Point(1, 1, "L", Type.UINT16, mandatory=True),
        Point(2, 1, "ES", Type.ENUM16, writable=True),
        Point(3, 1, "ESVHi", Type.UINT16, sf="V_SF", unit="Pct", writable=True),
        Point(4, 1, "ESVLo", Type.UINT16, sf="V_SF", unit="Pct", writable=True),
        Point(5, 2, "ESHzHi", Type.UINT32, sf="Hz_SF", unit="Hz", writable=True),
        Point(7, 2, "ESHzLo", Type.UINT32, sf="Hz_SF", unit="Hz", writable=True),
        Point(9, 2, "ESDlyTms", Type.UINT32, unit="Secs", writable=True),
        Point(11, 2, "ESRndTms", Type.UINT32, unit="Secs", writable=True),
        Point(13, 2, "ESRmpTms", Type.UINT32, unit="Secs", writable=True),
        Point(15, 2, "ESDlyRemTms", Type.UINT32, unit="Secs"),
        Point(17, 1, "V_SF", Type.SUNSSF),
        Point(18, 1, "Hz_SF", Type.SUNSSF),
    ),
)
