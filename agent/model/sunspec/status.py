"""Extended measurements and status of an inverter (model 122).

Written by scripts/make-sunspec-tables from sunspec/models (Apache-2.0) as pysunspec2 1.3.7 ships them.
Offsets count from the ID register.
"""

from agent.model.sunspec.points import Model, Point, Type

STATUS = Model(
    name="status",
    ids=(122,),
    length=44,
    points=(
        Point(0, 1, "ID", Type.UINT16, mandatory=True),
        Point(1, 1, "L", Type.UINT16, mandatory=True),
        Point(2, 1, "PVConn", Type.BITFIELD16, mandatory=True),
        Point(3, 1, "StorConn", Type.BITFIELD16, mandatory=True),
        Point(4, 1, "ECPConn", Type.BITFIELD16, mandatory=True),
        Point(5, 4, "ActWh", Type.ACC64, unit="Wh"),
        Point(9, 4, "ActVAh", Type.ACC64, unit="VAh"),
        Point(13, 4, "ActVArhQ1", Type.ACC64, unit="varh"),
        Point(17, 4, "ActVArhQ2", Type.ACC64, unit="varh"),
        Point(21, 4, "ActVArhQ3", Type.ACC64, unit="varh"),
        Point(25, 4, "ActVArhQ4", Type.ACC64, unit="varh"),
        Point(29, 1, "VArAval", Type.INT16, sf="VArAval_SF", unit="var"),
        Point(30, 1, "VArAval_SF", Type.SUNSSF),
        Point(31, 1, "WAval", Type.UINT16, sf="WAval_SF", unit="W"),
        Point(32, 1, "WAval_SF", Type.SUNSSF),
        Point(33, 2, "StSetLimMsk", Type.BITFIELD32),
        Point(35, 2, "StActCtl", Type.BITFIELD32),
        Point(37, 4, "TmSrc", Type.STRING),
        Point(41, 2, "Tms", Type.UINT32, unit="Secs"),
        Point(43, 1, "RtSt", Type.BITFIELD16),
        Point(44, 1, "Ris", Type.UINT16, sf="Ris_SF", unit="ohms"),
        Point(45, 1, "Ris_SF", Type.SUNSSF),
    ),
)
