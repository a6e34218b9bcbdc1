"""Basic storage controls (model 124).

Written by scripts/make-sunspec-tables from sunspec/models (Apache-2.0) as pysunspec2 1.3.7 ships them.
Offsets count from the ID register.
"""

from agent.model.sunspec.points import Model, Point, Type

STORAGE = Model(
    name="storage_basic",
    ids=(124,),
    length=24,
    points=(
        Point(0, 1, "ID", Type.UINT16, mandatory=True),
        Point(1, 1, "L", Type.UINT16, mandatory=True),
        Point(2, 1, "WChaMax", Type.UINT16, sf="WChaMax_SF", unit="W", mandatory=True, writable=True),
        Point(
            3,
            1,
            "WChaGra",
            Type.UINT16,
            sf="WChaDisChaGra_SF",
            unit="% WChaMax/sec",
            mandatory=True,
            writable=True,
        ),
        Point(
            4,
            1,
            "WDisChaGra",
            Type.UINT16,
            sf="WChaDisChaGra_SF",
            unit="% WChaMax/sec",
            mandatory=True,
            writable=True,
        ),
        Point(5, 1, "StorCtl_Mod", Type.BITFIELD16, mandatory=True, writable=True),
        Point(6, 1, "VAChaMax", Type.UINT16, sf="VAChaMax_SF", unit="VA", writable=True),
        Point(7, 1, "MinRsvPct", Type.UINT16, sf="MinRsvPct_SF", unit="% WChaMax", writable=True),
        Point(8, 1, "ChaState", Type.UINT16, sf="ChaState_SF", unit="% AhrRtg"),
        Point(9, 1, "StorAval", Type.UINT16, sf="StorAval_SF", unit="AH"),
        Point(10, 1, "InBatV", Type.UINT16, sf="InBatV_SF", unit="V"),
        Point(11, 1, "ChaSt", Type.ENUM16),
        Point(12, 1, "OutWRte", Type.INT16, sf="InOutWRte_SF", unit="% WDisChaMax", writable=True),
        Point(13, 1, "InWRte", Type.INT16, sf="InOutWRte_SF", unit="% WChaMax", writable=True),
        Point(14, 1, "InOutWRte_WinTms", Type.UINT16, unit="Secs", writable=True),
        Point(15, 1, "InOutWRte_RvrtTms", Type.UINT16, unit="Secs", writable=True),
        Point(16, 1, "InOutWRte_RmpTms", Type.UINT16, unit="Secs", writable=True),
        Point(17, 1, "ChaGriSet", Type.ENUM16, writable=True),
        Point(18, 1, "WChaMax_SF", Type.SUNSSF, mandatory=True),
        Point(19, 1, "WChaDisChaGra_SF", Type.SUNSSF, mandatory=True),
        Point(20, 1, "VAChaMax_SF", Type.SUNSSF),
        Point(21, 1, "MinRsvPct_SF", Type.SUNSSF),
        Point(22, 1, "ChaState_SF", Type.SUNSSF),
        Point(23, 1, "StorAval_SF", Type.SUNSSF),
        Point(24, 1, "InBatV_SF", Type.SUNSSF),
        Point(25, 1, "InOutWRte_SF", Type.SUNSSF),
    ),
)
