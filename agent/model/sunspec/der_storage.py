"""DER: storage capacity (model 713).

Written by scripts/make-sunspec-tables from sunspec/models (Apache-2.0) as pysunspec2 1.3.7 ships them.
Offsets count from the ID register.
"""

from agent.model.sunspec.points import Model, Point, Type

DER_STORAGE = Model(
    name="DERStorageCapacity",
    ids=(713,),
    length=7,
    points=(
        Point(0, 1, "ID", Type.UINT16, mandatory=True),
        Point(1, 1, "L", Type.UINT16, mandatory=True),
        Point(2, 1, "WHRtg", Type.UINT16, sf="WH_SF", unit="WH"),
        Point(3, 1, "WHAvail", Type.UINT16, sf="WH_SF", unit="WH"),
        Point(4, 1, "SoC", Type.UINT16, sf="Pct_SF", unit="Pct"),
        Point(5, 1, "SoH", Type.UINT16, sf="Pct_SF", unit="Pct"),
        Point(6, 1, "Sta", Type.ENUM16),
        Point(7, 1, "WH_SF", Type.SUNSSF),
        Point(8, 1, "Pct_SF", Type.SUNSSF),
    ),
)
