"""Immediate controls of an inverter (model 123).

Written by scripts/make-sunspec-tables from sunspec/models (Apache-2.0) as pysunspec2 1.3.7 ships them.
Offsets count from the ID register.
"""

from agent.model.sunspec.points import Model, Point, Type

CONTROLS = Model(
    name="controls",
    ids=(123,),
    length=24,
    points=(
        Point(0, 1, "ID", Type.UINT16, mandatory=True),
        Point(1, 1, "L", Type.UINT16, mandatory=True),
        Point(2, 1, "Conn_WinTms", Type.UINT16, unit="Secs", writable=True),
        Point(3, 1, "Conn_RvrtTms", Type.UINT16, unit="Secs", writable=True),
        Point(4, 1, "Conn", Type.ENUM16, mandatory=True, writable=True),
        Point(
            5, 1, "WMaxLimPct", Type.UINT16, sf="WMaxLimPct_SF", unit="% WMax", mandatory=True, writable=True
        ),
        Point(6, 1, "WMaxLimPct_WinTms", Type.UINT16, unit="Secs", writable=True),
        Point(7, 1, "WMaxLimPct_RvrtTms", Type.UINT16, unit="Secs", writable=True),
        Point(8, 1, "WMaxLimPct_RmpTms", Type.UINT16, unit="Secs", writable=True),
        Point(9, 1, "WMaxLim_Ena", Type.ENUM16, mandatory=True, writable=True),
        Point(10, 1, "OutPFSet", Type.INT16, sf="OutPFSet_SF", unit="cos()", mandatory=True, writable=True),
        Point(11, 1, "OutPFSet_WinTms", Type.UINT16, unit="Secs", writable=True),
        Point(12, 1, "OutPFSet_RvrtTms", Type.UINT16, unit="Secs", writable=True),
        Point(13, 1, "OutPFSet_RmpTms", Type.UINT16, unit="Secs", writable=True),
        Point(14, 1, "OutPFSet_Ena", Type.ENUM16, mandatory=True, writable=True),
        Point(15, 1, "VArWMaxPct", Type.INT16, sf="VArPct_SF", unit="% WMax", writable=True),
        Point(16, 1, "VArMaxPct", Type.INT16, sf="VArPct_SF", unit="% VArMax", writable=True),
        Point(17, 1, "VArAvalPct", Type.INT16, sf="VArPct_SF", unit="% VArAval", writable=True),
        Point(18, 1, "VArPct_WinTms", Type.UINT16, unit="Secs", writable=True),
        Point(19, 1, "VArPct_RvrtTms", Type.UINT16, unit="Secs", writable=True),
        Point(20, 1, "VArPct_RmpTms", Type.UINT16, unit="Secs", writable=True),
        Point(21, 1, "VArPct_Mod", Type.ENUM16, writable=True),
        Point(22, 1, "VArPct_Ena", Type.ENUM16, mandatory=True, writable=True),
        Point(23, 1, "WMaxLimPct_SF", Type.SUNSSF, mandatory=True),
        Point(24, 1, "OutPFSet_SF", Type.SUNSSF, mandatory=True),
        Point(25, 1, "VArPct_SF", Type.SUNSSF),
    ),
)
