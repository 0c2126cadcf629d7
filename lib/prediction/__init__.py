"""A trained network at work: its windows, what makes it lighter, what is done at test time, and how good it is where
there are no labels. The stage that uses all of it is :mod:`lib.stages.infer`."""
