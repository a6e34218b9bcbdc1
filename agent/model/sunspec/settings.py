"""Basic settings of an inverter (model 121).

Written by scripts/make-sunspec-tables from sunspec/models (Apache-2.0) as pysunspec2 1.3.7 ships them.
Offsets count from the ID register.
"""

from agent.model.sunspec.points import Model, Point, Type

SETTINGS = Model(
    name="settings",
    ids=(121,),
    length=30,
    points=(
        Point(0, 1, "ID", Type.UINT16, mandatory=True),
        Point(1, 1, "L", Type.UINT16, mandatory=True),
        Point(2, 1, "WMax", Type.UINT16, sf="WMax_SF", unit="W", mandatory=True, writable=True),
        Point(3, 1, "VRef", Type.UINT16, sf="VRef_SF", unit="V", mandatory=True, writable=True),
        Point(4, 1, "VRefOfs", Type.INT16, sf="VRefOfs_SF", unit="V", mandatory=True, writable=True),
        Point(5, 1, "VMax", Type.UINT16, sf="VMinMax_SF", unit="V", writable=True),
        Point(6, 1, "VMin", Type.UINT16, sf="VMinMax_SF", unit="V", writable=True),
        Point(7, 1, "VAMax", Type.UINT16, sf="VAMax_SF", unit="VA", writable=True),
        Point(8, 1, "VArMaxQ1", Type.INT16, sf="VArMax_SF", unit="var", writable=True),
        Point(9, 1, "VArMaxQ2", Type.INT16, sf="VArMax_SF", unit="var", writable=True),
        Point(10, 1, "VArMaxQ3", Type.INT16, sf="VArMax_SF", unit="var", writable=True),
        Point(11, 1, "VArMaxQ4", Type.INT16, sf="VArMax_SF", unit="var", writable=True),
        Point(12, 1, "WGra", Type.UINT16, sf="WGra_SF", unit="% WMax/sec", writable=True),
        Point(13, 1, "PFMinQ1", Type.INT16, sf="PFMin_SF", unit="cos()", writable=True),
        Point(14, 1, "PFMinQ2", Type.INT16, sf="PFMin_SF", unit="cos()", writable=True),
        Point(15, 1, "PFMinQ3", Type.INT16, sf="PFMin_SF", unit="cos()", writable=True),
        Point(16, 1, "PFMinQ4", Type.INT16, sf="PFMin_SF", unit="cos()", writable=True),
        Point(17, 1, "VArAct", Type.ENUM16, writable=True),
        Point(18, 1, "ClcTotVA", Type.ENUM16, writable=True),
        Point(19, 1, "MaxRmpRte", Type.UINT16, sf="MaxRmpRte_SF", unit="% WGra", writable=True),
        Point(20, 1, "ECPNomHz", Type.UINT16, sf="ECPNomHz_SF", unit="Hz", writable=True),
        Point(21, 1, "ConnPh", Type.ENUM16, writable=True),
        Point(22, 1, "WMax_SF", Type.SUNSSF, mandatory=True),
        Point(23, 1, "VRef_SF", Type.SUNSSF, mandatory=True),
        Point(24, 1, "VRefOfs_SF", Type.SUNSSF, mandatory=True),
        Point(25, 1, "VMinMax_SF", Type.SUNSSF),
        Point(26, 1, "VAMax_SF", Type.SUNSSF),
        Point(27, 1, "VArMax_SF", Type.SUNSSF),
        Point(28, 1, "WGra_SF", Type.SUNSSF),
        Point(29, 1, "PFMin_SF", Type.SUNSSF),
        Point(30, 1, "MaxRmpRte_SF", Type.SUNSSF),
        Point(31, 1, "ECPNomHz_SF", Type.SUNSSF),
    ),
)
