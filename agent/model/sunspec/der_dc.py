"""DER: DC measurements, one group a port (model 714).

Written by scripts/make-sunspec-tables from sunspec/models (Apache-2.0) as pysunspec2 1.3.7 ships them.
Offsets count from the ID register.
"""

from agent.model.sunspec.points import Group, Model, Point, Type

DER_DC = Model(
    name="DERMeasureDC",
    ids=(714,),
    length=18,
    points=(
        Point(0, 1, "ID", Type.UINT16, mandatory=True),
        Point(1, 1, "L", Type.UINT16, mandatory=True),
        Point(2, 2, "PrtAlrms", Type.BITFIELD32),
        Point(4, 1, "NPrt", Type.UINT16),
        Point(5, 1, "DCA", Type.INT16, sf="DCA_SF", unit="A"),
        Point(6, 1, "DCW", Type.INT16, sf="DCW_SF", unit="W"),
        Point(7, 4, "DCWhInj", Type.UINT64, sf="DCWH_SF", unit="Wh"),
        Point(11, 4, "DCWhAbs", Type.UINT64, sf="DCWH_SF", unit="Wh"),
        Point(15, 1, "DCA_SF", Type.SUNSSF),
        Point(16, 1, "DCV_SF", Type.SUNSSF),
        Point(17, 1, "DCW_SF", Type.SUNSSF),
        Point(18, 1, "DCWH_SF", Type.SUNSSF),
        Point(19, 1, "Tmp_SF", Type.SUNSSF),
    ),
    group=Group(
        name="Prt",
        count="NPrt",
        length=25,
        points=(
            Point(0, 1, "PrtTyp", Type.ENUM16),
            Point(1, 1, "ID", Type.UINT16),
            Point(2, 8, "IDStr", Type.STRING),
            Point(10, 1, "DCA", Type.INT16, sf="DCA_SF", unit="A"),
            Point(11, 1, "DCV", Type.UINT16, sf="DCV_SF", unit="V"),
            Point(12, 1, "DCW", Type.INT16, sf="DCW_SF", unit="W"),
            Point(13, 4, "DCWhInj", Type.UINT64, sf="DCWH_SF", unit="Wh"),
            Point(17, 4, "DCWhAbs", Type.UINT64, sf="DCWH_SF", unit="Wh"),
            Point(21, 1, "Tmp", Type.INT16, sf="Tmp_SF", unit="C"),
            Point(22, 1, "DCSta", Type.ENUM16),
            Point(23, 2, "DCAlrm", Type.BITFIELD32),
        ),
    ),
)
