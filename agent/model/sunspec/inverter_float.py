"""Inverter, floating point (models 111 to 113 share one layout).

Written by scripts/make-sunspec-tables from sunspec/models (Apache-2.0) as pysunspec2 1.3.7 ships them.
Offsets count from the ID register.
"""

from agent.model.sunspec.points import Model, Point, Type

INVERTER_FLOAT = Model(
    name="inverter_three_phase_float",
    ids=(111, 112, 113),
    length=60,
    points=(
        Point(0, 1, "ID", Type.UINT16, mandatory=True),
        Point(1, 1, "L", Type.UINT16, mandatory=True),
        Point(2, 2, "A", Type.FLOAT32, unit="A", mandatory=True),
        Point(4, 2, "AphA", Type.FLOAT32, unit="A", mandatory=True),
        Point(6, 2, "AphB", Type.FLOAT32, unit="A", mandatory=True),
        Point(8, 2, "AphC", Type.FLOAT32, unit="A", mandatory=True),
        Point(10, 2, "PPVphAB", Type.FLOAT32, unit="V"),
        Point(12, 2, "PPVphBC", Type.FLOAT32, unit="V"),
        Point(14, 2, "PPVphCA", Type.FLOAT32, unit="V"),
        Point(16, 2, "PhVphA", Type.FLOAT32, unit="V", mandatory=True),
        Point(18, 2, "PhVphB", Type.FLOAT32, unit="V", mandatory=True),
        Point(20, 2, "PhVphC", Type.FLOAT32, unit="V", mandatory=True),
        Point(22, 2, "W", Type.FLOAT32, unit="W", mandatory=True),
        Point(24, 2, "Hz", Type.FLOAT32, unit="Hz", mandatory=True),
        Point(26, 2, "VA", Type.FLOAT32, unit="VA"),
        Point(28, 2, "VAr", Type.FLOAT32, unit="var"),
        Point(30, 2, "PF", Type.FLOAT32, unit="Pct"),
        Point(32, 2, "WH", Type.FLOAT32, unit="Wh", mandatory=True),
        Point(34, 2, "DCA", Type.FLOAT32, unit="A"),
        Point(36, 2, "DCV", Type.FLOAT32, unit="V"),
        Point(38, 2, "DCW", Type.FLOAT32, unit="W"),
        Point(40, 2, "TmpCab", Type.FLOAT32, unit="C", mandatory=True),
        Point(42, 2, "TmpSnk", Type.FLOAT32, unit="C"),
        Point(44, 2, "TmpTrns", Type.FLOAT32, unit="C"),
        Point(46, 2, "TmpOt", Type.FLOAT32, unit="C"),
        Point(48, 1, "St", Type.ENUM16, mandatory=True),
        Point(49, 1, "StVnd", Type.ENUM16),
        Point(50, 2, "Evt1", Type.BITFIELD32, mandatory=True),
        Point(52, 2, "Evt2", Type.BITFIELD32, mandatory=True),
        Point(54, 2, "EvtVnd1", Type.BITFIELD32),
        Point(56, 2, "EvtVnd2", Type.BITFIELD32),
        Point(58, 2, "EvtVnd3", Type.BITFIELD32),
        Point(60, 2, "EvtVnd4", Type.BITFIELD32),
    ),
)
