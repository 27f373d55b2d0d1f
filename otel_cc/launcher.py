"""What must be decided before the application process starts: that our distro and configurator are the ones to load.

``opentelemetry-instrument`` imports this module in the launcher process because it is registered beside the modules
that declare environment variables; each ``OTEL_*`` name here also becomes a command-line option. Without it the first
distro in directory order wins where ``opentelemetry-distro`` is installed too. Injection by PYTHONPATH has no launcher;
``distro.pre_instrument`` covers that.

It must import nothing but the settings: everything imported here delays every start.
"""

from __future__ import annotations

import os

from otel_cc.settings import CHOICE, FALSE, SETTINGS

globals().update({setting.variable: setting.variable for setting in SETTINGS})

if os.environ.get("OTEL_CC_ENABLED", "").strip().lower() not in FALSE:
    for _name, _value in CHOICE.items():
        os.environ.setdefault(_name, _value)
