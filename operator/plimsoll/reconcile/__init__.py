"""The rules of a ModelDeployment, pure: what was observed in, what is to be done out."""
