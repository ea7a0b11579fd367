"""CDI specifications for tests."""
import json
import os
import shutil

import yaml


class Specs:
    """The two spec directories of a daemon."""

    def __init__(self, base):
        self.etc, self.run = f"{base}/cdi-etc", f"{base}/cdi-run"

    def put(self, name, devices, kind="vendor.com/dev", version="1.0.0", where=None, **top):
        """Writes a spec file; devices: {name: containerEdits}."""
        spec = {"cdiVersion": version, "kind": kind, **top,
                "devices": [{"name": n, "containerEdits": edits} for n, edits in devices.items()]}
        where = where or self.etc
        os.makedirs(where, exist_ok=True)
        with open(f"{where}/.{name}", "w", encoding="utf-8") as f:
            if name.endswith(".yaml"):
                yaml.safe_dump(spec, f)
            else:
                json.dump(spec, f)
        os.rename(f"{where}/.{name}", f"{where}/{name}")
        return f"{where}/{name}"

    def clear(self):
        for folder in (self.etc, self.run):
            shutil.rmtree(folder, ignore_errors=True)
