"""Reports of LVM's program lvs, as the agent asks for them."""

import json

from agent.snapshots import lvm

UUID = "123456-1234-1234-1234-1234-1234-123456"


def row(**changed):
    """Return a row of a report with every field that is asked for."""
    fields = dict.fromkeys(lvm.FIELDS.split(","), "")
    numbers = {"lv_size": "1", "vg_extent_size": "1", "vg_free_count": "1"}
    return {**fields, **numbers, "lv_uuid": UUID, "lv_attr": "-wi-a-----", **changed}


def report(*rows):
    """Return what lvs prints."""
    return json.dumps({"report": [{"lv": rows}], "log": []})
