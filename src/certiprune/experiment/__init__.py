"""From one YAML file to committed results: the configuration, the stages, and the order in which they run."""
