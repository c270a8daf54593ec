"""From what a data set looks like and what a machine can do to a training file: rules, each choice with its reason."""
