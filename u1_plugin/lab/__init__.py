"""The laboratory: suites, rivals, controls, claims, reports and figures.

It imports the other rooms, and none of them imports it. Its components are
registered by ``import u1_plugin.lab``, or in a config by
``custom_imports = dict(imports=['u1_plugin.lab'])``.
"""

from . import registration

registration.register()
