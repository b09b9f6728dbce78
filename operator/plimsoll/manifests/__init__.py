"""Pure builders of the children of a ModelDeployment: one file for each kind, in stage order."""
