"""Configuration: the keys and their defaults, YAML files, the catalog of data sets. Imports errors and utils only."""

from alphaction.config.defaults import get_cfg
from alphaction.config.load import changed_keys, load_config
from alphaction.config.validate import validate

__all__ = ["changed_keys", "get_cfg", "load_config", "validate"]
