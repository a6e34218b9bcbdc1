"""Nameplate ratings of an inverter (model 120).

Written by scripts/make-sunspec-tables from sunspec/models (Apache-2.0) as pysunspec2 1.3.7 ships them.
Offsets count from the ID register.
"""

from agent.model.sunspec.points import Model, Point, Type

NAMEPLATE = Model(
    name="nameplate",
    ids=(120,),
    length=26,
    points=(
        Point(0, 1, "ID", Type.UINT16, mandatory=True),
        Point(1, 1, "L", Type.UINT16, mandatory=True),
        Point(2, 1, "DERTyp", Type.ENUM16, mandatory=True),
        Point(3, 1, "WRtg", Type.UINT16, sf="WRtg_SF", unit="W", mandatory=True),
        Point(4, 1, "WRtg_SF", Type.SUNSSF, mandatory=True),
        Point(5, 1, "VARtg", Type.UINT16, sf="VARtg_SF", unit="VA", mandatory=True),
        Point(6, 1, "VARtg_SF", Type.SUNSSF, mandatory=True),
        Point(7, 1, "VArRtgQ1", Type.INT16, sf="VArRtg_SF", unit="var", mandatory=True),
        Point(8, 1, "VArRtgQ2", Type.INT16, sf="VArRtg_SF", unit="var", mandatory=True),
        Point(9, 1, "VArRtgQ3", Type.INT16, sf="VArRtg_SF", unit="var", mandatory=True),
        Point(10, 1, "VArRtgQ4", Type.INT16, sf="VArRtg_SF", unit="var", mandatory=True),
        Point(11, 1, "VArRtg_SF", Type.SUNSSF, mandatory=True),
        Point(12, 1, "ARtg", Type.UINT16, sf="ARtg_SF", unit="A", mandatory=True),
        Point(13, 1, "ARtg_SF", Type.SUNSSF, mandatory=True),
        Point(14, 1, "PFRtgQ1", Type.INT16, sf="PFRtg_SF", unit="cos()", mandatory=True),
        Point(15, 1, "PFRtgQ2", Type.INT16, sf="PFRtg_SF", unit="cos()", mandatory=True),
        Point(16, 1, "PFRtgQ3", Type.INT16, sf="PFRtg_SF", unit="cos()", mandatory=True),
        Point(17, 1, "PFRtgQ4", Type.INT16, sf="PFRtg_SF", unit="cos()", mandatory=True),
        Point(18, 1, "PFRtg_SF", Type.SUNSSF, mandatory=True),
        Point(19, 1, "WHRtg", Type.UINT16, sf="WHRtg_SF", unit="Wh"),
        Point(20, 1, "WHRtg_SF", Type.SUNSSF),
        Point(21, 1, "AhrRtg", Type.UINT16, sf="AhrRtg_SF", unit="AH"),
        Point(22, 1, "AhrRtg_SF", Type.SUNSSF),
        Point(23, 1, "MaxChaRte", Type.UINT16, sf="MaxChaRte_SF", unit="W"),
        Point(24, 1, "MaxChaRte_SF", Type.SUNSSF),
        Point(25, 1, "MaxDisChaRte", Type.UINT16, sf="MaxDisChaRte_SF", unit="W"),
        Point(26, 1, "MaxDisChaRte_SF", Type.SUNSSF),
        Point(27, 1, "Pad", Type.PAD),
    ),
)
