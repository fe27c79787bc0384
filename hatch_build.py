"""The measured rows travel with the installed package, so that a chapter reads the same figures in Colab as in a clone.

An editable install reads ``results/`` itself; a copy beside it would go stale.
"""

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class IncludeResults(BuildHookInterface):
    def initialize(self, version: str, build_data: dict) -> None:
        if version == "standard":
            build_data["force_include"]["results"] = "compress_lib/results"
